"""The rounds of a run as text, column by column: for the terminal and for reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lottery.runs.metric import Metrics
from lottery.runs.schema import RoundSummary
from lottery.text.numbers import number, percent
from lottery.text.tables import TextTable


def round_table(summaries: Sequence[RoundSummary]) -> TextTable:
    """Density, the monitored metric (or the last of every metric), test metrics and time of each round."""
    columns: dict[str, Callable[[RoundSummary], str]] = {
        "round": lambda s: str(s.round),
        "density": lambda s: percent(s.density),
        "weights": lambda s: f"{s.kept:,}",
    }
    captions = []
    monitor = summaries[0].monitor if summaries else None
    if monitor is not None:
        captions.append(f"start, best, last: {monitor} before training, at its best step, at the end")
        columns |= {
            "start": lambda s: number(s.start.get(monitor)),
            "best": lambda s: number(s.best.get(monitor)),
            "step": lambda s: number(s.best.get("step")),
            "last": lambda s: number(s.last.get(monitor)),
        }
    elif summaries:
        names = [n for n in summaries[0].last if not n.endswith(("_step", "_epoch"))]
        columns |= {n: lambda s, n=n: number(s.last.get(n)) for n in names}  # type: ignore[misc]
    for name in names_tested(summaries[0]) if summaries else ():
        columns[name] = lambda s, n=name: number(values_tested(s).get(n))  # type: ignore[misc]
        when = "best" if summaries[0].test_best else "last"
        captions.append(f"{name} at the {when} step")
    columns["seconds"] = lambda s: f"{s.seconds:.1f}"
    rows = [[cell(summary) for cell in columns.values()] for summary in summaries]
    return TextTable(list(columns), rows, "; ".join(captions))


def values_tested(summary: RoundSummary) -> Metrics:
    """Test metrics at the best step; of the last step where no metric is monitored."""
    return summary.test_best or summary.test_last


def names_tested(summary: RoundSummary) -> list[str]:
    """The test metrics worth a column: the counterpart of the monitored one, or all."""
    metric = summary.metric
    if metric is not None and metric.part == "test_best":
        return [metric.name]
    return list(values_tested(summary))
