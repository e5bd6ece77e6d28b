"""Figures by the values of a column of the evaluation rows: a language, a source, a product.

The column is noted while rows are read and never becomes part of them. Its values stand in run.json and in the report, so it must not hold texts.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from runtime.encode import Tokens
from runtime.errors import InputError
from runtime.problems import shown
from runtime.records import Record
from runtime.tables import Row

from .intervals import Interval, wilson
from .losses import Floats
from .metrics import Metrics
from .objectives import Objective

MAX_VALUES, MAX_CHARACTERS = (
    50,
    60,
)  # of a column that names groups of rows; what has more holds texts or numbers of rows
NOT_GIVEN = "not given"
# Shares of rows. Spans of a text are right or wrong together: an interval for a share of them would be too narrow.
SHARES = frozenset({"accuracy"})


class Slice(NamedTuple):
    """What the kept weights reach on the rows of one value.

    Attributes:
        value: of the column.
        num_rows: how many have it.
        values: the figures by name.
        intervals: of those that are shares of rows, where chance alone may put them in 95 of 100 samples of such rows.
    """

    value: str
    num_rows: int
    values: dict[str, float]
    intervals: dict[str, Interval]


def note_column(column: str, noted: dict[int, str], *, source: str) -> Callable[[Iterator[Row]], Iterator[Row]]:
    """Give a function that rows pass through, and that notes a column's value by the row's line.

    Args:
        column: its name.
        noted: gets the values.
        source: where the rows come from, for errors.

    Returns:
        It raises InputError where the first row lacks the column, and where a value is no name of a group.
    """

    def through(rows: Iterator[Row]) -> Iterator[Row]:
        for number, row in enumerate(rows):
            if number == 0 and column not in row.values:
                there = ", ".join(row.values)
                raise InputError(f"--slice-column: {source} has no column {column!r}. It has: {there}.")
            noted[row.line] = _value(row.values.get(column), column, f"{source}:{row.line}")
            yield row

    return through


def slices_of(records: Sequence[Record], noted: dict[int, str], column: str) -> list[str]:
    """Give each row's value.

    Raises:
        InputError: there are so many different ones that they are no groups.
    """
    values = [noted[record.line] for record in records]
    if len(set(values)) > MAX_VALUES:
        raise InputError(
            f"--slice-column {column} must name at most {MAX_VALUES} groups of evaluation rows. Got {len(set(values)):,} different values instead; choose another column."
        )
    return values


def measure_slices(
    groups: Sequence[str],
    logits: Sequence[Floats],
    records: Sequence[Record],
    tokens: Sequence[Tokens] | None,
    *,
    objective: Objective,
    labels: tuple[str, ...],
) -> list[Slice]:
    """Measure the rows of each value, the most frequent first.

    Args:
        groups: each row's value.
        logits: each row's, so that labels count from 0.
        records: the rows.
        tokens: their tokens, for a tagger.
        objective: the task.
        labels: the label of each logit.
    """
    found = []
    for value in set(groups):
        rows = [index for index, group in enumerate(groups) if group == value]
        measured = measure_some(rows, logits, records, tokens, objective=objective, labels=labels)
        intervals = {
            name: wilson(round(share * len(rows)), len(rows))
            for name, share in measured.values.items()
            if name in SHARES
        }
        found.append(Slice(value, len(rows), measured.values, intervals))
    return sorted(found, key=lambda part: (-part.num_rows, part.value))


def measure_some(
    rows: Sequence[int],
    logits: Sequence[Floats],
    records: Sequence[Record],
    tokens: Sequence[Tokens] | None,
    *,
    objective: Objective,
    labels: tuple[str, ...],
) -> Metrics:
    """Measure the rows that stand at some places; all else as `measure_slices`."""
    return objective.measure(
        [logits[row] for row in rows],
        [records[row] for row in rows],
        None if tokens is None else [tokens[row] for row in rows],
        labels,
    )


def as_json(slices: Sequence[Slice]) -> dict[str, dict[str, float]] | None:
    """Give the figures by value for run.json; None where none were asked for."""
    return {part.value: {"num_rows": part.num_rows, **part.values} for part in slices} or None


def _value(value: Any, column: str, where: str) -> str:
    if value is None or value == "":
        return NOT_GIVEN
    if not isinstance(value, str | int | float) or len(str(value)) > MAX_CHARACTERS:
        raise InputError(
            f"--slice-column {column} must hold names of groups of rows, up to {MAX_CHARACTERS} characters each. Got {shown(value)} at {where} instead; choose another column."
        )
    return str(value)
