"""How sure decisions are and how often they are right, and what is left of them where only the surest are given."""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..page import Picture
from .theme import Points, Theme, render, single_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats: TypeAlias = npt.NDArray[np.floating[Any]]


def plot_reliability(before: Points, after: Points | None, *, width_inches: float) -> Picture:
    """Draw how often decisions are right against how sure they are.

    Args:
        before: (mean probability, share that was right) of decisions of like probability.
        after: the same, calibrated; None where nothing was changed.
        width_inches: letters have the same size in a narrow picture.
    """
    series = {"as trained": before} if after is None else {"as trained": before, "calibrated": after}
    return render(lambda theme: _draw_reliability(series, width_inches, theme))


def plot_coverage(
    coverage: Floats,
    precision: Floats,
    *,
    wanted: float,
    chosen: tuple[float, float] | None,
    width_inches: float,
) -> Picture:
    """Draw how many answers are right if only the surest are given.

    Args:
        coverage: (K,) shares of rows that are answered.
        precision: (K,) the share of right answers among each.
        wanted: the precision that was asked for.
        chosen: coverage and precision of the level in use; None for no mark.
        width_inches: letters have the same size in a narrow picture.
    """
    return render(lambda theme: _draw_coverage(coverage, precision, wanted, chosen, width_inches, theme))


def _draw_reliability(series: dict[str, Points], width: float, theme: Theme) -> "Figure":
    figure, axes = single_axes(width, height=min(width, 4.4))
    least = np.floor(10 * min(min(point) for points in series.values() for point in points)) / 10
    axes.plot([least, 1], [least, 1], color=theme.muted, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    for (name, points), color, marker in zip(series.items(), reversed(theme.series[:2]), "s^", strict=False):
        axes.plot(*zip(*points, strict=True), color=color, marker=marker, label=name, zorder=2, clip_on=False)
    axes.set_xlabel("mean probability")
    axes.set_ylabel("share that is right")
    axes.legend(loc="upper left")
    return figure


def _draw_coverage(
    coverage: Floats,
    precision: Floats,
    wanted: float,
    chosen: tuple[float, float] | None,
    width: float,
    theme: Theme,
) -> "Figure":
    figure, axes = single_axes(width, height=2.6)
    axes.set_title("Right answers, if only the surest are given", loc="left", fontsize=10, fontweight="bold", pad=8)
    axes.plot(coverage, precision, color=theme.series[0], zorder=2)
    axes.axhline(wanted, color=theme.muted, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    if chosen is not None:
        axes.plot(
            *chosen, color=theme.series[1], marker="o", markersize=7, linestyle="", label="the level in use", zorder=3
        )
        axes.legend(loc="lower left")
    surest = max(1, len(precision) // 50)  # among the first few answers one wrong one is a cliff
    lowest = min([*precision[surest:], wanted])
    axes.set_ylim(max(0.0, lowest - 0.02), 1.005)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of rows that is answered")
    axes.set_ylabel("share that is right")
    return figure
