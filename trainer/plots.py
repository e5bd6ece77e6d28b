"""Pictures of a run, as PNG bytes on light and on dark paper. matplotlib is imported when one is drawn, and pyplot never."""

import io
import re
import struct
import warnings
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .page import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CSS_PIXELS_PER_INCH = 96  # by definition, CSS Values and Units 6.2
SHARP, COARSE = 192, 128  # dots per inch; a matrix of many labels is large enough in bytes as it is
ERRORS = frozenset({"rmse"})  # measured in the unit of the scores, so they need an axis of their own
LONGEST_NAME = 24  # characters of a label on an axis
MATRIX_INCHES, SMALLEST_CELL, LARGEST_CELL = 5.2, 0.11, 0.9  # 0.11 inches hold a line of 6 pt
SMALL_CELL = 0.15  # inches; above some 35 labels a matrix is so large that its foot is far from its head
SMALLEST_COUNT = 6.0  # points; smaller counts are left out, the colours remain
# DejaVu Sans comes with matplotlib; it has no Chinese, Japanese or Korean, so the first of these that is installed steps in.
WIDER_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Microsoft YaHei", "Arial Unicode MS")


class Theme(NamedTuple):
    """Colours of one scheme; the same as those of the report's page."""

    paper: str
    ink: str
    muted: str
    line: str
    series: tuple[str, ...]
    shares: tuple[str, str]  # least and most, in the matrix


LIGHT = Theme("#ffffff", "#16181d", "#5a6270", "#e3e6eb", ("#2457d6", "#b45309", "#0f766e"), ("#e6edfc", "#1c46b8"))
DARK = Theme("#111418", "#e9ebef", "#a3abb8", "#2a3038", ("#8ab4ff", "#f5b95f", "#5fd3bf"), ("#1c273b", "#8ab4ff"))


Points: TypeAlias = Sequence[tuple[float, float]]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]


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
    return _render(lambda theme: _draw_curves(shown, best_step, width_inches, theme), dots=SHARP) if shown else None


def plot_confusion(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> Picture:
    """Draw a confusion matrix (C, C), truth by prediction: colours are shares of a row, numbers are counts where they have room."""
    names = [_shorten(label) for label in labels]
    cell = min(LARGEST_CELL, max(SMALLEST_CELL, MATRIX_INCHES / len(names)))
    return _render(
        lambda theme: _draw_confusion(counts, names, cell, theme), dots=COARSE if cell < SMALL_CELL else SHARP
    )


def plot_reliability(before: Points, after: Points | None, *, width_inches: float) -> Picture:
    """Draw how often decisions are right against how sure they are.

    Args:
        before: (mean probability, share that was right) of decisions of like probability.
        after: the same, calibrated; None where nothing was changed.
        width_inches: letters have the same size in a narrow picture.
    """
    series = {"as trained": before} if after is None else {"as trained": before, "calibrated": after}
    return _render(lambda theme: _draw_reliability(series, width_inches, theme), dots=SHARP)


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
    return _render(lambda theme: _draw_coverage(coverage, precision, wanted, chosen, width_inches, theme), dots=SHARP)


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
    return _render(lambda theme: _draw_trials(panels, states, metric, width_inches, theme), dots=SHARP)


def plot_comparison(curves: dict[str, tuple[list[float], list[float]]], *, metric: str) -> Picture:
    """Draw a metric of several runs over the epochs.

    Args:
        curves: (epochs, values) by run.
        metric: its name.
    """
    return _render(lambda theme: _draw_comparison(curves, metric, theme), dots=SHARP)


def _draw_comparison(curves: dict[str, tuple[list[float], list[float]]], metric: str, theme: Theme) -> "Figure":
    figure, axes = _panel(8.1, height=3.6)
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
        axes.xaxis.set_major_formatter(lambda value, _: _scientific(value))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=dots.title == "trial"))
    if dots.ticks is not None:
        axes.set_xticks(dots.ticks, [str(tick) for tick in dots.ticks])
    for state, look in looks.items():
        chosen = [point for point, own in zip(dots.points, states, strict=True) if own == state]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), linestyle="", label=state, clip_on=False, zorder=2, **look)


def _draw_reliability(series: dict[str, Points], width: float, theme: Theme) -> "Figure":
    figure, axes = _panel(width, height=min(width, 4.4))
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
    figure, axes = _panel(width, height=2.6)
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


def _panel(width: float, *, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


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
        axes.yaxis.set_major_formatter(lambda value, _: _scientific(value))
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


def _draw_confusion(counts: npt.NDArray[np.int64], names: Sequence[str], cell: float, theme: Theme) -> "Figure":
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(cell * len(names), cell * len(names)))
    axes = figure.add_axes((0, 0, 1, 1))  # exactly the matrix; names stand outside, and the picture is cut around them
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    norm = PowerNorm(0.6, vmin=0, vmax=1)  # lifts small shares: on a straight scale a mistake in 20 could not be seen
    scale = LinearSegmentedColormap.from_list("shares", theme.shares)
    colors = scale.with_extremes(under=theme.paper)
    filled = np.where(counts, shares, -1.0)  # empty cells lie under the scale
    axes.pcolormesh(filled, cmap=colors, norm=norm, edgecolors=theme.line, linewidth=2.5 * min(cell, 0.25))
    axes.invert_yaxis()
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", labelpad=10)
    axes.set_ylabel("true", labelpad=10)
    _name_cells(axes, names, cell)
    size = min(9.0, 72 * cell * 0.8 / (0.62 * len(str(counts.max()))))  # a digit of DejaVu Sans is 0.62 em wide
    if size >= SMALLEST_COUNT:
        for row, column in np.argwhere(counts):
            ink = _ink_on(colors(norm(shares[row, column])))
            middle = (column + 0.5, row + 0.5)
            axes.annotate(str(counts[row, column]), middle, color=ink, fontsize=size, ha="center", va="center")
    return figure


def _name_cells(axes: "Axes", names: Sequence[str], cell: float) -> None:
    text: dict[str, Any] = {
        "fontsize": min(9.0, 72 * cell * 0.75),
        "fontfamily": _font_families(),
        "parse_math": False,  # a label may hold dollars and is still no formula
    }
    slanted: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    middles = np.arange(len(names)) + 0.5
    axes.set_yticks(middles, names, **text)
    axes.set_xticks(middles, names, **text, **(slanted if cell > 0.4 else {"rotation": 90}))
    axes.tick_params(labeltop=cell < SMALL_CELL)


def _ink_on(color: Sequence[float]) -> str:
    """Choose black or white, whichever stands out more (relative luminance as WCAG 2 defines it)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color[:3]]
    return "#000000" if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) > 0.179 else "#ffffff"


def _render(draw: Callable[[Theme], "Figure"], *, dots: int) -> Picture:
    light, dark = _png(draw, LIGHT, dots), _png(draw, DARK, dots)
    pixels: int = struct.unpack(">I", light[16:20])[0]  # IHDR, PNG specification 11.2.2
    return Picture(light, dark, round(pixels * CSS_PIXELS_PER_INCH / dots))


def _png(draw: Callable[[Theme], "Figure"], theme: Theme, dots: int) -> bytes:
    import matplotlib

    stream, metadata = io.BytesIO(), {"Software": None}  # else it carries a web address
    with matplotlib.rc_context(_style(theme)), warnings.catch_warnings():
        # A label in a script that no font here has is drawn as boxes; the page spells it out.
        warnings.filterwarnings("ignore", message="Glyph .* missing from|Matplotlib currently does not support")
        draw(theme).savefig(stream, format="png", dpi=dots, bbox_inches="tight", pad_inches=0.08, metadata=metadata)
    return stream.getvalue()


def _style(
    theme: Theme,
) -> Any:  # matplotlib types the keys as a Literal of all settings, which no other signature can repeat
    return {
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": theme.line,
        "grid.linewidth": 0.7,
        "text.color": theme.ink,
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "font.size": 9,
        "lines.linewidth": 1.8,
        "lines.markersize": 4,
        "legend.frameon": False,
        "text.usetex": False,
    }


def _font_families() -> list[str]:
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *[name for name in WIDER_FONTS if name in installed][:1]]


def _shorten(label: str) -> str:
    printable = re.sub(r"[\s\x00-\x1f\x7f]+", " ", label).strip()
    return printable if len(printable) <= LONGEST_NAME else printable[: LONGEST_NAME - 1] + "…"


def _scientific(value: float) -> str:
    return "0" if value == 0 else np.format_float_scientific(value, precision=2, trim="-", exp_digits=1)
