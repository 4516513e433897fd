"""An axis of densities in percent, logarithmic, with ticks that read as people write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FuncFormatter, Locator, NullLocator

from lottery.plots.style import KEPT

MOST = 12
"""More ticks than that are noise."""

_SHIFT = 0.012  # of the axis, between arms, so that their bars do not lie on each other


def falls_to_the_right(ax: Axes) -> None:
    """Let x be the density in percent, dense at the left, as in the papers."""
    ax.set_xscale("log")
    ax.xaxis.set_inverted(True)
    write_percentages(ax.xaxis)
    ax.set_xlabel(KEPT)


def side_by_side(densities: pd.Series, arms: int) -> np.ndarray:
    """Factors of density that put arms side by side on a logarithmic axis."""
    width = np.log(densities.max() / densities.min()) or 1.0
    return np.exp(_SHIFT * width * ((arms - 1) / 2 - np.arange(arms)))


def write_percentages(axis: Axis) -> None:
    """Give a logarithmic axis ticks at round percentages, none of them in scientific notation."""
    axis.set_major_locator(DensityLocator())
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(percentages())


def percentages() -> FuncFormatter:
    """Writes ticks in plain digits."""
    return FuncFormatter(lambda value, _: plain(value))


def plain(value: float) -> str:
    """A number in plain digits, whatever its size.

    Example:
        >>> plain(100.0), plain(0.5), plain(0.00002)
        ('100', '0.5', '0.00002')
    """
    return np.format_float_positional(float(f"{value:.6g}"), trim="-")


class DensityLocator(Locator):
    """As many round percentages as fit next to each other."""

    def __call__(self) -> Sequence[float]:
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        low, high = sorted((float(vmin), float(vmax)))
        if not 0 < low < high * (1 - 1e-9) < math.inf:
            return []
        axis = self.axis
        assert isinstance(axis, Axis)
        across = isinstance(axis, XAxis)
        given = matplotlib.rcParams
        size = given["xtick.labelsize"] if across else given["ytick.labelsize"]
        points = FontProperties(size=size).get_size_in_points()
        box = axis.axes.bbox
        inches = (box.width if across else box.height) / axis.axes.figure.dpi
        ems = 72 * inches / points
        return density_ticks(low, high, ems, _width if across else _height)


def density_ticks(low: float, high: float, length: float, extent: Callable[[str], float]) -> list[float]:
    """Round percentages from `low` to `high` whose labels do not touch on a logarithmic axis.

    Args:
        low: the smallest percentage on the axis, above 0.
        high: the largest.
        length: of the axis.
        extent: what a label takes of that length, with the space around it.

    Returns:
        Ticks that rise; none where not even one lies between `low` and `high`.

    Example:
        >>> density_ticks(6.5, 104, 60, len)
        [10.0, 20.0, 50.0, 100.0]
        >>> density_ticks(0.0009, 104, 20, len)
        [0.01, 1.0, 100.0]
    """
    per_unit = length / math.log(high / low)

    def fits(ticks: list[float]) -> bool:
        extents = [extent(plain(tick)) for tick in ticks]
        return len(ticks) <= MOST and all(
            per_unit * math.log(ticks[i + 1] / ticks[i]) >= (extents[i] + extents[i + 1]) / 2
            for i in range(len(ticks) - 1)
        )

    return next(filter(fits, _from_fine_to_coarse(low, high)))


def _from_fine_to_coarse(low: float, high: float) -> Iterator[list[float]]:
    def inside(ticks: list[float]) -> list[float]:
        return [tick for tick in ticks if low <= tick * (1 + 1e-9) <= high * (1 + 2e-9)]

    if high < 4 * low:  # a narrow axis holds too few of 1, 2, 5
        smallest = math.floor(math.log10(high - low)) - 1
        for exponent in range(smallest, smallest + 3):
            for step in (1, 2, 5):
                unit = step * 10.0**exponent
                first, last = math.ceil(low / unit), math.floor(high / unit + 1e-9)
                if last > first:
                    yield inside([unit * i for i in range(first, last + 1)])
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    yield inside([step * 10.0**d for d in decades for step in (1, 2, 5)])
    for stride in range(1, len(decades) + 1):
        yield inside([10.0**d for d in decades if (d - 2) % stride == 0])
    yield inside([10.0 ** decades[-1]])


def _width(label: str) -> float:
    return 0.64 * len(label) + 0.8


def _height(label: str) -> float:
    return 1.5
