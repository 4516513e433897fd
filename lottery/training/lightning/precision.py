"""What an optimizer's own `load_state_dict` does not put back: the precision of its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def restore_precision(optimizer: Any, saved: Mapping[str, Any]) -> None:
    """Put back state in the precision that it had: torch casts it to the parameters' when it loads it."""
    if "state" not in saved or "param_groups" not in saved:
        return
    for group, known in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for parameter, index in zip(group["params"], known["params"], strict=True):
            now = optimizer.state.get(parameter, {})
            for key, value in saved["state"].get(index, {}).items():
                if isinstance(value, Tensor) and value.dtype != now[key].dtype:
                    now[key] = value.to(now[key].device)
