"""The picture of a profile: how fast against how faithful, as SVG; no library draws it.

Its colours are mid-tones on no background, so that it can be read on a light page and on a dark one.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from .profile import Choice, Measurement, Profile

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 84, 24, 64, 64  # margins of the plot
GREY, FAINT, BLUE, ORANGE = "#7d7d7d", "#7d7d7d55", "#3d85c6", "#d9770b"
LEAST_SPAN = 0.005  # of the axis upwards: half a per cent of agreement is no abyss
FONT, CHARACTER, LINE = 12, 6.6, 15  # pixels: size, mean width of a character, height of a line


class _Point(NamedTuple):
    """A measurement in the picture; x and y are figures first, then pixels."""

    x: float
    y: float
    measured: Measurement
    label: str


class _Scale(NamedTuple):
    """From figures to pixels."""

    low: float
    high: float
    step: float  # between ticks
    start: float
    end: float

    @property
    def decimals(self) -> int:
        return max(0, -math.floor(math.log10(self.step) + 1e-9))

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [self.low + self.step * number for number in range(round((self.high - self.low) / self.step) + 1)]


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "_Box") -> float:
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)


def draw(profile: Profile, *, title: str) -> str:
    """Draw a profile's measurements.

    Args:
        profile: what was measured.
        title: what it was measured of.

    Returns:
        An SVG document: texts/s to the right; upwards the task's metric, or without labels the agreement with the reference. A filled point may win, a
        hollow one is out. The line joins those that none beats in both. Settings that were dropped are small, at the height of their variant.
    """
    points = _points(profile)
    across = _scale(0.0, max(point.x for point in points), LEFT, WIDTH - RIGHT)
    highest = max(point.y for point in points)
    lowest = min(*(point.y for point in points), highest - LEAST_SPAN)
    up = _scale(lowest, highest, HEIGHT - BOTTOM, TOP)
    placed = [point._replace(x=across.at(point.x), y=up.at(point.y)) for point in points]
    front = " ".join(f"{point.x:.1f},{point.y:.1f}" for point in _front(placed))
    metric, conditions = profile.conditions.quality, profile.conditions
    told = (
        f"{conditions.num_texts:,} texts of {conditions.mean_tokens:.0f} tokens on average; {profile.date[:10]}. "
        "Hollow: out. Small: settings that were dropped."
    )
    upwards = metric or f"agreement with {conditions.reference.partition(',')[0]}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="{FONT}" fill="{GREY}">',
        f"<title>{escape(title)}</title>",
        _text(LEFT, 24, title, more='font-size="15" font-weight="600"'),
        _text(LEFT, 43, told),
        *_axes(across, up, upwards),
        f'<polyline points="{front}" fill="none" stroke="{BLUE}" stroke-width="1.5" stroke-opacity="0.6"/>',
        *(_mark(point, chosen=point.measured.choice == profile.winner) for point in placed),
        *_labels(placed, profile.winner, rules=[up.at(tick) for tick in up.ticks()]),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes(across: _Scale, up: _Scale, upwards: str) -> Iterator[str]:
    for tick in up.ticks():
        y = up.at(tick)
        yield _rule(LEFT, y, WIDTH - RIGHT, y)
        yield _text(LEFT - 8, y + 4, f"{tick:.{up.decimals}f}", more='text-anchor="end"')
    for tick in across.ticks():
        x = across.at(tick)
        yield _rule(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 5)
        yield _text(x, HEIGHT - BOTTOM + 20, f"{tick:,.{across.decimals}f}", more='text-anchor="middle"')
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, "texts/s", more='text-anchor="middle"')
    turned = f'text-anchor="middle" transform="translate(20 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)"'
    yield _text(0, 0, upwards, more=turned)


def _points(profile: Profile) -> list[_Point]:
    heights: dict[tuple[str, str], float] = {}  # of each variant on an engine, as first measured
    points = []
    for measured in profile.measurements:
        choice = measured.choice
        name = (choice.variant, choice.engine)
        height = measured.agreement if profile.conditions.quality is None else measured.quality
        if measured.texts_per_s is None or (height is None and name not in heights):
            continue  # never timed, or never compared
        label = ""
        if choice == profile.winner:
            label = f"chosen: {choice}"
        elif name not in heights:
            label = " on ".join(name) + (": out" if measured.out is not None else "")
        if label and choice == profile.default:
            label += " (default)"
        heights.setdefault(name, height if height is not None else 0.0)
        points.append(_Point(measured.texts_per_s, heights[name] if height is None else height, measured, label))
    return points


def _front(points: Sequence[_Point]) -> list[_Point]:
    """Find, from the fastest on, those that may win and are better than all faster ones; pixels grow downwards."""
    front: list[_Point] = []
    for point in sorted(points, key=lambda point: (-point.x, point.y)):
        if point.measured.out is None and (not front or point.y < front[-1].y):
            front.append(point)
    return front


def _scale(low: float, high: float, start: float, end: float) -> _Scale:
    """Cover a range with about five round steps."""
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = math.floor(low / step + 1e-9)
    return _Scale(first * step, max(math.ceil(high / step - 1e-9), first + 1) * step, step, start, end)


def _mark(point: _Point, *, chosen: bool) -> str:
    colour = ORANGE if chosen else BLUE
    radius = 6 if chosen else 4.5 if point.label else 2.5
    fill = colour if point.measured.out is None else "none"
    return f'<circle cx="{point.x:.1f}" cy="{point.y:.1f}" r="{radius}" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'


def _labels(points: Sequence[_Point], winner: Choice, *, rules: Sequence[float]) -> list[str]:
    """Write each label where it covers least, of points, other labels and rules: right, left, above or below its point."""
    taken = [_Box(point.x - 6, point.y - 6, point.x + 6, point.y + 6) for point in points]
    taken += [_Box(LEFT, y - 1, WIDTH, y + 1) for y in rules]
    parts = []
    for point in sorted(points, key=lambda point: point.measured.choice != winner):
        if not point.label:
            continue
        chosen = point.measured.choice == winner
        places = list(_places(point, len(point.label) * CHARACTER))
        place = min(places, key=lambda place: sum(place.box.overlap(other) for other in taken) + _outside(place.box))
        taken.append(place.box)
        if not place.box.top < point.y < place.box.bottom:  # not beside its point: say whose it is
            parts.append(_leader(point, place.box, ORANGE if chosen else BLUE))
        more = f'text-anchor="{place.anchor}"' + (f' fill="{ORANGE}" font-weight="600"' if chosen else "")
        parts.append(_text(place.x, place.box.bottom - 4, point.label, more=more))
    return parts


class _Place(NamedTuple):
    """Where a label may stand: what it covers, and the x and anchor that put it there whatever the font's real width is."""

    box: _Box
    x: float
    anchor: str


def _places(point: _Point, width: float) -> Iterator[_Place]:
    for rows in (0, -1, 1, -2, 2, -3, 3):
        top = point.y - LINE / 2 + rows * LINE
        for x, left, anchor in (
            (point.x + 10, point.x + 10, "start"),
            (point.x - 10, point.x - 10 - width, "end"),
            (point.x, point.x - width / 2, "middle"),
        ):
            if rows or anchor != "middle":
                yield _Place(_Box(left, top, left + width, top + LINE), x, anchor)


def _outside(box: _Box) -> float:
    """How much of a box lies outside the plot, as an area that weighs more than any overlap."""
    frame = _Box(LEFT, TOP - LINE, WIDTH, HEIGHT - BOTTOM)
    return 10 * ((box.right - box.left) * (box.bottom - box.top) - box.overlap(frame))


def _leader(point: _Point, box: _Box, colour: str) -> str:
    """Join a point and the nearest edge of its label."""
    x = min(max(point.x, box.left), box.right)
    y = box.top if box.top > point.y else box.bottom
    return _line(point.x, point.y, x, y, colour)


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return _line(x1, y1, x2, y2, FAINT)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{" " * bool(more)}{more}>{escape(text)}</text>'
