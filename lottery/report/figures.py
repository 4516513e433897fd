"""The pictures of a report: what to draw, how to read it, and why some cannot be drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.runs.comparison import compare
from lottery.runs.metric import Metric
from lottery.runs.run import Run
from lottery.storage.directory import StorageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lottery.masks.masks import Masks
    from lottery.studies import Study

_LARGEST_SVG = 120_000
"""Bytes: above it a picture is embedded as pixels."""


@dataclass(frozen=True, eq=False)
class Image:
    """A picture with its title and caption.

    Args:
        kind: a word for file names, the same for the same picture of another run.
        title: what it shows.
        caption: how to read it.
        data: the bytes of a file.
        mime: "image/png" or "image/svg+xml".
    """

    kind: str
    title: str
    caption: str
    data: bytes
    mime: str


@dataclass(frozen=True)
class LeftOut:
    """A picture that cannot be drawn, and why."""

    title: str
    why: str


@dataclass(frozen=True)
class Drawing:
    """A picture to be drawn; `draw` raises ValueError or StorageError where it cannot be."""

    kind: str
    title: str
    caption: str
    draw: Callable[[], Any]


def of_arms(arms: Mapping[str, Sequence[Run]], metric: Metric | None) -> list[Drawing]:
    """What is drawn of all arms together: the metric, and the step of the best validation, against density."""
    compared = compare(arms)
    several = any(len(runs) > 1 for runs in arms.values())
    mean = " Points are means over runs, bars their 95 % intervals." if several else ""
    column = None if metric is None else metric.column
    name = "metric" if metric is None else metric.name
    drawings = [
        Drawing(
            "metric",
            f"{name} against density",
            "Density falls to the right. The grey line is the network before any pruning: a point on its good side is a"
            f" ticket that trains as well as it.{mean}",
            lambda: _pruned(arms) and compared.plot("metric", column, ylabel=name),
        )
    ]
    if metric is not None and metric.chosen_by is not None:
        drawings.append(
            Drawing(
                "early-stop",
                f"Step of the best {metric.chosen_by}",
                f"How long a round trains until its {metric.chosen_by} is best: lower is faster. The winning"
                f" tickets of Frankle and Carbin (2019) learn faster than the dense network.{mean}",
                lambda: _pruned(arms) and compared.plot("early-stop"),
            )
        )
    return drawings


def of_arm(runs: Sequence[Run]) -> list[Drawing]:
    """What is drawn of one arm: curves and layers over its runs, masks of the first."""
    from lottery import plots

    arm = {"": runs}
    compared = compare(arm)
    mean = f", mean of {len(runs)} runs" if len(runs) > 1 else ""
    of_first = f" Of {runs[0].path} only." if len(runs) > 1 else ""
    last = runs[0].rounds[-1] if runs[0].rounds else 0
    named = f"round {last}"
    return [
        Drawing(
            "curves",
            f"Learning curves{mean}",
            "A line for each round, darker where more weights are left; the dense round is thicker.",
            lambda: compared.plot("curves"),
        ),
        Drawing(
            "densities",
            f"Density of each layer{mean}",
            "Lines that stay above the others are layers which pruning spares.",
            lambda: _pruned(arm) and compared.plot("densities"),
        ),
        Drawing(
            "deaths",
            "When each weight died",
            "Light blue died early, dark blue late, orange is alive. Rows or columns that are pale throughout are units"
            f" that lost their weights first.{of_first}",
            lambda: _pruned(arm) and runs[0].plot("deaths"),
        ),
        Drawing(
            "masks",
            f"Masks of {named}",
            f"Black weights are kept, outputs downwards; grey is the share kept of a block.{of_first}",
            lambda: plots.mask_images(_sparse(runs[0], last)),
        ),
        Drawing(
            "inputs",
            f"What {named} sees of the input",
            f"Weights that the first layer keeps for each pixel, summed over its units.{of_first}",
            lambda: plots.input_image(next(iter(_sparse(runs[0], last).values()))),
        ),
        Drawing(
            "fans",
            f"Fan-in and fan-out in {named}",
            f"Kept weights into each unit and out of it; units without any are dead.{of_first}",
            lambda: plots.fans(_sparse(runs[0], last)),
        ),
        Drawing(
            "weights",
            "Weights before and after pruning",
            "Trained weights of the last round that was pruned and whose weights were kept: dark ones stayed, light"
            f" ones were pruned.{' The runs are pooled.' if len(runs) > 1 else ''}",
            lambda: _pruned(arm) and compared.plot("weights"),
        ),
    ]


def of_study(study: Study, **options: Any) -> list[Drawing]:
    """What is drawn of a study: the figures of the papers, then what its tickets' runs look like.

    Args:
        study: the study.
        options: of `Study.evidence`.
    """
    mean = "Points are means over seeds, bars their 95 % intervals."
    tickets = [
        drawing
        for drawing in of_arm(next(iter(study.compare().arms.values())))
        if drawing.kind in ("curves", "densities")
    ]
    return [
        Drawing(
            "metric",
            "Ticket and controls against density",
            "A control that lies as high as the ticket can take its place: then what the control lacks is not what"
            " makes the ticket. The grey band is dense. Marks at the top are the rounds in which something is shown: a"
            f" star where the ticket wins, a dot where it matches dense, a cross where it is below. {mean}",
            lambda: study.plot("metric", **options),
        ),
        Drawing(
            "difference",
            "Gain over dense and over each control",
            "Differences within pairs of equal seeds, so their intervals tell more than those above. In the upper"
            " picture a bar that ends above the dotted margin matches dense; in the lower one a bar above zero is a"
            " gain. Claims in words are stricter: they are corrected for the number of rounds and controls.",
            lambda: study.plot("difference", **options),
        ),
        Drawing(
            "early-stop",
            "Step of best validation",
            f"Lower is faster. The winning tickets of Frankle and Carbin (2019) learn faster than dense. {mean}",
            lambda: study.plot("early-stop"),
        ),
        Drawing(
            "speed",
            "Steps to dense's level",
            "When validation first reached the best value of the dense network of the same seed, relative to dense's"
            " own steps: below 1 is faster. Of the seeds that got there, which the numbers count; where few did, the"
            " slow ones are missing and the ratio flatters.",
            lambda: study.plot("speed", **options),
        ),
        Drawing(
            "barrier",
            "Error barrier",
            "How far the error rises on the line between two trainings of the same ticket in different orders of the"
            " data. Below the dotted line both ended in one linearly connected region (Frankle et al. 2020).",
            lambda: study.plot("barrier"),
        ),
        *tickets,
    ]


def draw_all(
    drawings: Sequence[Drawing], *, vector: bool, doing: Callable[[str], None]
) -> tuple[list[Image], list[LeftOut]]:
    """Draw pictures, telling which is being drawn; and what cannot be drawn."""
    pictures, left_out = [], []
    for drawing in drawings:
        doing(drawing.title)
        made = draw(drawing, vector=vector)
        if isinstance(made, Image):
            pictures.append(made)
        else:
            left_out.append(made)
    return pictures, left_out


def draw(drawing: Drawing, *, vector: bool) -> Image | LeftOut:
    """Draw a picture, as SVG where that is wanted and small, else as PNG."""
    import matplotlib.pyplot as plt

    others = set(plt.get_fignums())
    try:
        drawn = drawing.draw()
    except (ValueError, StorageError) as error:
        for begun in set(plt.get_fignums()) - others:
            plt.close(begun)
        return LeftOut(drawing.title, str(error))
    figure = getattr(drawn, "figure", drawn)
    try:
        data, mime = (_svg(figure), "image/svg+xml") if vector else (b"", "")
        if not vector or len(data) > _LARGEST_SVG:
            data, mime = _saved(figure, "png"), "image/png"
    finally:
        plt.close(figure)
    return Image(drawing.kind, drawing.title, drawing.caption, data, mime)


def _svg(figure: Figure) -> bytes:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "lottery"}):
        return _saved(figure, "svg", metadata={"Date": None})


def _saved(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=160, facecolor="white", **options)
    return buffer.getvalue()


def _pruned(arms: Mapping[str, Sequence[Run]]) -> bool:
    """Make sure that there is more than one density to draw."""
    if not any(len(run.rounds) > 1 for runs in arms.values() for run in runs):
        raise ValueError("no pruned round is finished yet")
    return True


def _sparse(run: Run, number: int) -> Masks:
    """The masks of a round that prunes anything."""
    if not run.rounds:
        raise ValueError("no round is finished yet")
    masks = run.last_masks(number)
    if masks.density == 1:
        raise ValueError(f"round {number} keeps all weights")
    return masks
