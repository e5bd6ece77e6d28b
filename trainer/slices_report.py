"""The report's section on slices: the figures by the values of --slice-column."""

from collections.abc import Sequence
from html import escape

from .page import section, table
from .slices import Slice
from .wording import NAMES


def write_slices(slices: Sequence[Slice], column: str | None) -> list[str]:
    """Write the section as HTML; none where no column was named."""
    if not slices or column is None:
        return []
    names = list(slices[0].values)
    head = ["Value", "Rows", *(title for name in names for title in _titles(name, slices))]
    rows = [(part.value, part.num_rows, *(cell for name in names for cell in _cells(name, part))) for part in slices]
    note = (
        f"Of the evaluation rows, by the column <code>{escape(column)}</code>, the most frequent value first. "
        "The fewer rows a value has, the more its figures owe to chance."
    )
    return [section("Slices", f'<p class="note">{note}</p>{table(head, rows, name="Figures by slice")}')]


def _titles(name: str, slices: Sequence[Slice]) -> list[str]:
    return [NAMES[name].title, *(["95 % interval"] if name in slices[0].intervals else [])]


def _cells(name: str, part: Slice) -> list[str | float]:
    value = part.values[name]
    figure = value if name in part.intervals else f"{value:.3f}"
    interval = part.intervals.get(name)
    return [figure, *([f"{interval.low:.3f}–{interval.high:.3f}"] if interval else [])]
