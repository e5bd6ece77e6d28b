"""A confusion matrix: colours are shares of a row, numbers are counts where they have room."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..page import Picture
from .theme import SHARP, Theme, font_families, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COARSE = 128  # dots per inch; a matrix of many labels is large enough in bytes as it is
LONGEST_NAME = 24  # characters of a label on an axis
MATRIX_INCHES, SMALLEST_CELL, LARGEST_CELL = 5.2, 0.11, 0.9  # 0.11 inches hold a line of 6 pt
SMALL_CELL = 0.15  # inches; above some 35 labels a matrix is so large that its foot is far from its head
SMALLEST_COUNT = 6.0  # points; smaller counts are left out, the colours remain


def plot_confusion(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> Picture:
    """Draw a confusion matrix (C, C), truth by prediction: colours are shares of a row, numbers are counts where they have room."""
    names = [_shorten(label) for label in labels]
    cell = min(LARGEST_CELL, max(SMALLEST_CELL, MATRIX_INCHES / len(names)))
    return render(
        lambda theme: _draw_confusion(counts, names, cell, theme), dots=COARSE if cell < SMALL_CELL else SHARP
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
        "fontfamily": font_families(),
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


def _shorten(label: str) -> str:
    printable = re.sub(r"[\s\x00-\x1f\x7f]+", " ", label).strip()
    return printable if len(printable) <= LONGEST_NAME else printable[: LONGEST_NAME - 1] + "…"
