"""What an optimizer's own `load_state_dict` does not put back: the precision of its state."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.optim import Optimizer

from lottery.training.state import Plain


def restore_precision(optimizer: Optimizer, saved: Mapping[str, Plain]) -> None:
    """Put back state in the precision that it had: torch casts it to the parameters' when it loads it.

    State is reached through `state_dict`, which shares it, since an optimizer around another has none of its own.
    """
    if "state" not in saved or "param_groups" not in saved:
        return
    live = optimizer.state_dict().get("state", {})
    for index, values in saved["state"].items():
        now = live.get(index, {})
        for key, value in values.items() if isinstance(values, Mapping) else ():
            tensors = isinstance(value, Tensor) and isinstance(now.get(key), Tensor)
            if tensors and value.dtype != now[key].dtype:
                now[key] = value.to(now[key].device)
