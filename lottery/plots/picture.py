"""What a plot gives: a figure that a notebook shows once, in whichever way it is asked for."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Picture:
    """A figure and its panels.

    As the last expression of a cell it shows itself, as PNG and SVG; a figure that is open still at the cell's end is
    shown by the notebook, as every figure of matplotlib is. Neither comes twice: what has shown itself is closed.

    Args:
        axes: the panels, without colour bars; all of one figure.

    Attributes:
        axes: the panels.
        figure: the figure, for whatever matplotlib can do with it.

    Example:
        >>> from lottery import plots
        >>> picture = plots.layer_bars({"fc.weight": 0.5, "out.weight": 1.0}, overall=0.6)
        >>> picture
        Picture(1 panel, 640 × 160 pixels)
        >>> _ = picture.axes[0].set_title("half of it")
        >>> plt.close(picture.figure)
    """

    def __init__(self, axes: Sequence[Axes]) -> None:
        self.axes = list(axes)
        self.figure: Figure = self.axes[0].figure.figure  # also of a panel in a subfigure
        self._drawn = False
        self._made_in = _cell()
        _take_literally(self.figure)
        self.figure.canvas.mpl_connect("draw_event", self._remember)

    def save(self, path: str | os.PathLike[str], *, dpi: float = 200) -> None:
        """Write the figure to a file.

        Args:
            path: its ending is the format, such as .png, .svg or .pdf.
            dpi: pixels per inch, where the format has pixels.
        """
        self.figure.savefig(path, dpi=dpi, bbox_inches="tight")

    def __repr__(self) -> str:
        width, height = (round(100 * inches) for inches in self.figure.get_size_inches())
        return f"Picture({len(self.axes)} panel{'s' * (len(self.axes) != 1)}, {width} × {height} pixels)"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        shown = {"text/plain": repr(self)}
        if not _shows_nothing_itself() or self._shown_by_the_notebook():
            return dict(shown)
        png, svg = self._as("png"), self._as("svg")
        plt.close(self.figure)
        return {**shown, "image/png": png, "image/svg+xml": svg.decode()}

    def _as(self, form: str) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format=form, bbox_inches="tight")
        return buffer.getvalue()

    def _shown_by_the_notebook(self) -> bool:
        """Whether this cell has shown the figure before it asks for this, as `plt.show` and ipywidgets do."""
        closed = self.figure.number not in plt.get_fignums() if hasattr(self.figure, "number") else False
        return closed and self._drawn and self._made_in == _cell()

    def _remember(self, event: object) -> None:
        self._drawn = True


def _take_literally(figure: Figure) -> None:
    """Have names with dollar signs drawn as they are, rather than set as formulas."""
    numbers = {
        id(label)
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        if not isinstance(axis.get_major_formatter(), FixedFormatter)
        for tick in (*axis.majorTicks, *axis.minorTicks)
        for label in (tick.label1, tick.label2)
    }
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in numbers:
            text.set_parse_math(False)


def _cell() -> int | None:
    """The number of the notebook's cell that runs."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "execution_count", None)


def _shows_nothing_itself() -> bool:
    """Whether figures are drawn only when asked, and not live, as those of ipympl or a window are."""
    backend = matplotlib.get_backend().lower()
    return "inline" in backend or backend == "agg"
