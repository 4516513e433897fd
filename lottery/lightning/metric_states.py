"""The states of a module's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def metrics_of(module: Any) -> dict[str, Any]:
    from torchmetrics import Metric

    return {
        name: part for name, part in module.named_modules() if isinstance(part, Metric)
    }


def metric_states(module: Any) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "count": metric._update_count,
            "values": {
                key: list(v) if isinstance(v, list) else v
                for key, v in metric.metric_state.items()
            },
        }
        for name, metric in metrics_of(module).items()
        if metric._update_count
    }


def restore_metric_states(module: Any, states: Mapping[str, Mapping[str, Any]]) -> None:
    metrics = metrics_of(module)
    for name, state in states.items():
        metrics[name]._update_count = state["count"]
        for key, value in state["values"].items():
            setattr(metrics[name], key, value)
