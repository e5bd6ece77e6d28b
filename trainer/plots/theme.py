"""How every picture of a run looks: PNG bytes on light and on dark paper. matplotlib is imported when one is drawn, and pyplot never."""

import io
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ..page import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CSS_PIXELS_PER_INCH = 96  # by definition, CSS Values and Units 6.2
SHARP = 192  # dots per inch
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


def render(draw: Callable[[Theme], "Figure"], *, dots: int = SHARP) -> Picture:
    """Render what `draw` draws in each scheme, at `dots` an inch."""
    light, dark = _png(draw, LIGHT, dots), _png(draw, DARK, dots)
    pixels: int = struct.unpack(">I", light[16:20])[0]  # IHDR, PNG specification 11.2.2
    return Picture(light, dark, round(pixels * CSS_PIXELS_PER_INCH / dots))


def single_axes(width: float, *, height: float) -> "tuple[Figure, Axes]":
    """Make a picture of one set of axes, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def font_families() -> list[str]:
    """Name the fonts for texts in any script."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *[name for name in WIDER_FONTS if name in installed][:1]]


def scientific(value: float) -> str:
    """Write a number such as 1e-4."""
    return "0" if value == 0 else np.format_float_scientific(value, precision=2, trim="-", exp_digits=1)


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
