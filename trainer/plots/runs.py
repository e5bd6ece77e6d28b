"""Runs beside each other: over their epochs, or trials of a search against what was varied."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

from ..page import Picture
from .theme import Points, Theme, render, scientific, single_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Dots(NamedTuple):
    """One set of axes: a dot a trial; where `ticks` are set, the axis has no others."""

    title: str
    points: Points
    log: bool = False
    ticks: Sequence[float] | None = None


def plot_trials(panels: Sequence[Dots], states: Sequence[str], *, metric: str, width_inches: float) -> Picture:
    """Draw what trials reached against several things.

    Args:
        panels: the trials' points in each, in the same order.
        states: of the trials: "complete", "pruned", "failed" or "kept".
        metric: what was reached.
        width_inches: letters have the same size in a narrow picture.
    """
    return render(lambda theme: _draw_trials(panels, states, metric, width_inches, theme))


def plot_comparison(curves: dict[str, tuple[list[float], list[float]]], *, metric: str) -> Picture:
    """Draw a metric of several runs over the epochs.

    Args:
        curves: (epochs, values) by run.
        metric: its name.
    """
    return render(lambda theme: _draw_comparison(curves, metric, theme))


def _draw_comparison(curves: dict[str, tuple[list[float], list[float]]], metric: str, theme: Theme) -> "Figure":
    figure, axes = single_axes(8.1, height=3.6)
    styles = cycle([(color, line) for line in ("-", "--", ":") for color in theme.series])
    for (name, (epochs, values)), (color, line) in zip(curves.items(), styles, strict=False):
        axes.plot(epochs, values, color=color, linestyle=line, marker="o", markersize=4, label=name)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{metric}, evaluation rows")
    axes.legend(loc="best")
    return figure


def _draw_trials(panels: Sequence[Dots], states: Sequence[str], metric: str, width: float, theme: Theme) -> "Figure":
    from matplotlib.figure import Figure

    columns = 2 if width > 6 else 1
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(width, 2.2 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, dots in zip(grid.flat, panels, strict=False):
        _draw_dots(axes, dots, states, theme)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(metric)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=4)
    return figure


def _draw_dots(axes: "Axes", dots: Dots, states: Sequence[str], theme: Theme) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    looks: dict[str, dict[str, Any]] = {
        "complete": {"marker": "o", "color": theme.series[0]},
        "pruned": {"marker": "o", "color": theme.series[0], "markerfacecolor": theme.paper},
        "failed": {"marker": "x", "color": theme.muted},
        "kept": {"marker": "D", "color": theme.series[1], "markersize": 7},
    }
    axes.set_xlabel(dots.title)
    if dots.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: scientific(value))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=dots.title == "trial"))
    if dots.ticks is not None:
        axes.set_xticks(dots.ticks, [str(tick) for tick in dots.ticks])
    for state, look in looks.items():
        chosen = [point for point, own in zip(dots.points, states, strict=True) if own == state]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), linestyle="", label=state, clip_on=False, zorder=2, **look)
