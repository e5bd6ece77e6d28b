"""The loss, the evaluation metrics and the learning rate over the steps of a run."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

from ..page import Picture
from .theme import Theme, render, scientific

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ERRORS = frozenset({"rmse"})  # measured in the unit of the scores, so they need an axis of their own


class Panel(NamedTuple):
    """One set of axes: its curves by name, each (steps, values)."""

    title: str
    height: float
    curves: dict[str, tuple[list[int], list[float]]]


def plot_curves(history: Sequence[dict[str, Any]], *, best_step: int | None, width_inches: float) -> Picture | None:
    """Draw the loss, the evaluation metrics and the learning rate over the steps.

    Args:
        history: the lines of metrics.jsonl.
        best_step: where to mark the weights that were kept; None for no mark.
        width_inches: letters have the same size in a narrow picture.

    Returns:
        The picture, or None where there is nothing to draw.
    """
    logged = [line for line in history if "loss" in line]
    evaluated = [line for line in history if "eval" in line]
    names = list(dict.fromkeys(name for line in evaluated for name in line["eval"]))
    measured = {name: _curve([line for line in evaluated if name in line["eval"]], "eval", name) for name in names}
    panels = [
        Panel("Training loss", 2.3, {"loss": _curve(logged, "loss")} if logged else {}),
        Panel("Evaluation", 1.7, {name: measured[name] for name in names if name not in ERRORS}),
        Panel("Evaluation error", 1.2, {name: measured[name] for name in names if name in ERRORS}),
        Panel("Learning rate", 1.0, {"learning_rate": _curve(logged, "learning_rate")} if logged else {}),
    ]
    shown = [panel for panel in panels if panel.curves]
    return render(lambda theme: _draw_curves(shown, best_step, width_inches, theme)) if shown else None


def _curve(lines: Sequence[dict[str, Any]], *path: str) -> tuple[list[int], list[float]]:
    values: list[Any] = list(lines)
    for name in path:
        values = [value[name] for value in values]
    return [line["step"] for line in lines], values


def _draw_curves(panels: Sequence[Panel], best_step: int | None, width: float, theme: Theme) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    heights = [panel.height for panel in panels]
    figure = Figure(figsize=(width, sum(heights) + 0.4), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr,call-arg]  # a constrained layout was asked for
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _draw_panel(axes, panel, theme)
        if best_step is not None:
            axes.axvline(best_step, color=theme.muted, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    bottom = grid[-1, 0]
    bottom.set_xlabel("step")
    bottom.set_xlim(left=0)  # a single step has no span to draw an axis from
    bottom.xaxis.set_major_locator(MaxNLocator(nbins=max(3, round(width)), integer=True, steps=[1, 2, 5, 10]))
    bottom.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if best_step is not None:
        _name_best_step(grid[0, 0], best_step, theme)
    return figure


def _draw_panel(axes: "Axes", panel: Panel, theme: Theme) -> None:
    styles = cycle(zip(theme.series, "os^", strict=True))
    for (name, (steps, values)), (color, marker) in zip(panel.curves.items(), styles, strict=False):
        few = len(steps) <= 30  # more would hide the line
        axes.plot(
            steps,
            values,
            color=color,
            marker=marker if few else "",
            label=name.replace("_", " "),
            zorder=2,
            clip_on=False,
        )
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", pad=8)
    axes.yaxis.set_major_locator(_round_numbers(panel.height))
    if "learning_rate" in panel.curves:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: scientific(value))
    if len(panel.curves) > 1 or panel.curves.keys() & ERRORS:
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1.2, handlelength=1.5
        )


def _round_numbers(inches: float) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=max(2, round(inches * 2)), steps=[1, 2, 2.5, 5, 10])


def _name_best_step(axes: "Axes", best_step: int, theme: Theme) -> None:
    left, right = axes.get_xlim()
    late = best_step > (left + right) / 2
    axes.annotate(
        f"weights kept: step {best_step:,}",
        (best_step, 0.96),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if late else 6, 0),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        color=theme.muted,
        bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 1.5},  # no grid line strikes it through
    )
