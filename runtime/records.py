"""Turn rows into checked examples.

    Row(line, values) ──text, text_pair──► Record(text, …) ──TARGETS[target]──► with label, labels, score or spans

A cell is used as it stands or is a problem; nothing is repaired or guessed. A text cell that is a list of strings holds
the text's words, which are joined by one space: tagged words become the text that prediction will see.
"""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from .conll import Entity, bio, entities
from .errors import InputError
from .problems import DataError, Problem, shown
from .tables import PLAIN, Layout, Row, read_table


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Characters `start` to `end` of a text, the end exclusive."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One example; of label, labels, score and spans the one that was asked for."""

    text: str
    text_pair: str | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    spans: tuple[Span, ...] | None = None  # in the text's order
    words: tuple[tuple[int, int], ...] | None = None  # the characters of each word, where the row gave words
    line: int = 0

    @property
    def model_input(self) -> str | tuple[str, str]:
        """What the model reads: the text, or both texts of a pair."""
        return self.text if self.text_pair is None else (self.text, self.text_pair)


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which column holds what."""

    text: str = "text"
    text_pair: str | None = None
    label: str | None = None  # None: the target's own name for it
    label_separator: str = ","  # between the labels of one cell


class Target(NamedTuple):
    """What records are labelled with: the columns to look in, and how a cell becomes part of the record."""

    columns: tuple[str, ...]
    attach: Callable[[Record, Any, Columns], Record]


DEFAULT_COLUMNS = Columns()


def read_records(
    path: str | Path, *, target: str | None, columns: Columns = DEFAULT_COLUMNS, layout: Layout = PLAIN
) -> list[Record]:
    """Read a file of examples.

    Args:
        path: the file.
        target: a key of TARGETS; None reads the texts alone.
        columns: which column holds what.
        layout: what the file's extension does not say.

    Returns:
        One record a row, in the file's order.

    Raises:
        DataError: with all problems of the file (the first of each row), or because it has no rows.
        InputError: the file cannot be read, or has no such column.
    """
    problems: list[Problem] = []
    rows = read_table(path, layout=layout, problems=problems)
    records = list(to_records(rows, path=str(path), target=target, columns=columns, problems=problems))
    if not records and not problems:
        problems.append(Problem(str(path), None, "has no rows"))
    if problems:
        raise DataError(problems)
    return records


def to_records(
    rows: Iterable[Row], *, path: str, target: str | None, columns: Columns = DEFAULT_COLUMNS, problems: list[Problem]
) -> Iterator[Record]:
    """Check rows from anywhere; `path` says where they come from, `problems` gets every row that is left out.

    Raises:
        InputError: the first row lacks a column.
    """
    is_first = True
    for row in rows:
        if is_first:
            check_columns(tuple(row.values), path=path, target=target, columns=columns)
            is_first = False
        try:
            record = _record(row, target, columns)
        except InputError as exc:
            problems.append(Problem(path, row.line, str(exc)))
        else:
            yield record


def check_columns(names: Sequence[str], *, path: str, target: str | None, columns: Columns = DEFAULT_COLUMNS) -> None:
    """Raise InputError unless the columns are there, saying which are, and with which flag to name another."""
    wanted: dict[str, tuple[str, ...]] = {"--text-column": (columns.text, "words")}
    if columns.text_pair is not None:
        wanted["--text-pair-column"] = (columns.text_pair,)
    if target is not None:
        wanted["--label-column"] = target_columns(target, columns)
    missing = {flag: accepted[0] for flag, accepted in wanted.items() if not set(accepted) & set(names)}
    if missing:
        absent = ", ".join(f"no column {name!r}" for name in missing.values())
        there = ", ".join(name if name and name == name.strip() else repr(name) for name in names)
        raise InputError(f"{absent}; {path} has: {there}. Name it with {', '.join(missing)}")


def target_columns(target: str, columns: Columns) -> tuple[str, ...]:
    """Name the columns that the truth is looked for in, in this order."""
    return TARGETS[target].columns if columns.label is None else (columns.label,)


def word_spans(text: str) -> tuple[tuple[int, int], ...]:
    r"""Split a text into words and single punctuation marks, \w+|[^\w\s], as (start, end)."""
    return tuple(match.span() for match in _WORD.finditer(text))


def bio_tags(words: Sequence[tuple[int, int]], spans: Iterable[Span]) -> list[str]:
    """Tag words, given in the text's order, with BIO.

    A word belongs to the first span that shares a character with it. So a span that begins or ends inside a word takes
    the whole word, and one is lost only where every word it touches belongs to an earlier one.
    """
    starts, ends = [start for start, _ in words], [end for _, end in words]
    found: list[Entity] = []
    for span in sorted(spans, key=lambda span: span.start):
        first = max(bisect_right(ends, span.start), found[-1].end_word if found else 0)
        end = bisect_left(starts, span.end)
        if first < end:
            found.append(Entity(first, end, span.label))
    return bio(found, len(words))


_WORD = re.compile(r"\w+|[^\w\s]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPAN_FORM = '[{"start": 0, "end": 5, "label": "LOC"}]'


def _record(row: Row, target: str | None, columns: Columns) -> Record:
    value, where = _cell(row.values, (columns.text, "words"))
    text, words = _join(value, where) if isinstance(value, list) else (_text(value, where), None)
    pair = None if columns.text_pair is None else _text(*_cell(row.values, (columns.text_pair,)))
    record = Record(text=text, text_pair=pair, words=words, line=row.line)
    if target is None:
        return record
    value, where = _cell(row.values, target_columns(target, columns))
    if value is None:
        raise InputError(f"{where} is NULL")
    return TARGETS[target].attach(record, value, columns)


def _cell(values: dict[str, Any], names: tuple[str, ...]) -> tuple[Any, str]:
    for name in names:
        if name in values:
            return values[name], f"column {name!r}"
    raise InputError(f"no column {names[0]!r} in this row; it has: {', '.join(values)}")


def _text(value: Any, where: str) -> str:
    if value is None:
        raise InputError(f"{where} is NULL")
    if not isinstance(value, str):
        raise InputError(f"{where} must hold text. Got {shown(value)} ({type(value).__name__}) instead")
    if not value.strip():
        raise InputError(f"{where} is {'white space only' if value else 'empty'}")
    if not value.isascii() and (half := _SURROGATE.search(value)):
        raise InputError(f"{where} holds half a surrogate pair, {half[0]!r}, at character {half.start()}")
    return value


def _join(words: list[Any], where: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    if not words:
        raise InputError(f"{where} is an empty list")
    text = " ".join(_text(word, f"{where}, word {index},") for index, word in enumerate(words, 1))
    starts = accumulate((len(word) + 1 for word in words), initial=0)
    return text, tuple((start, start + len(word)) for start, word in zip(starts, words, strict=False))


def _label(value: Any) -> str:
    if isinstance(value, float):
        raise InputError(f"label {value!r} is a float, as integers with gaps become; write integers or text")
    if not isinstance(value, str | int):
        raise InputError(f"label must be text, an integer or a boolean. Got {shown(value)} instead")
    return _text(str(value), "label")


def _with_label(record: Record, value: Any, _: Columns) -> Record:
    return replace(record, label=_label(value))


def _with_labels(record: Record, value: Any, columns: Columns) -> Record:
    separator = columns.label_separator
    if isinstance(value, str):
        value = [part.strip() for part in value.split(separator)] if value.strip() else []
    if not isinstance(value, list | tuple):
        raise InputError(f"labels must be a list, or text parted by {separator!r}. Got {shown(value)} instead")
    labels = tuple(_label(item) for item in value)
    if len(set(labels)) < len(labels):
        raise InputError(f"labels name one twice: {shown(value)}")
    return replace(record, labels=labels)


def _with_score(record: Record, value: Any, _: Columns) -> Record:
    score = _number(value)
    if not math.isfinite(score):
        raise InputError(f"score must be a finite number, such as 4.5. Got {shown(value)} instead")
    return replace(record, score=score)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return math.nan
    if isinstance(value, str) and "_" in value:  # 1_000 is a number to Python alone
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _with_spans(record: Record, value: Any, _: Columns) -> Record:
    if not isinstance(value, list):
        raise InputError(f"spans must be a list, {_SPAN_FORM}, in JSON lines or Parquet. Got {shown(value)} instead")
    if record.words is not None and all(isinstance(item, str) for item in value):
        return replace(record, spans=_tagged(record.words, value))
    spans = sorted((_span(item, record.text) for item in value), key=lambda span: span.start)
    for left, right in pairwise(spans):
        if right.start < left.end:
            raise InputError(f"{_told(left)} and {_told(right)} overlap; a character has one label at most")
    return replace(record, spans=tuple(spans))


def _tagged(words: tuple[tuple[int, int], ...], tags: list[str]) -> tuple[Span, ...]:
    if len(tags) != len(words):
        raise InputError(f"has {len(words)} words and {len(tags)} tags; each word has one tag")
    return tuple(Span(start=words[i][0], end=words[j - 1][1], label=label) for i, j, label in entities(tags))


def _span(item: Any, text: str) -> Span:
    if not isinstance(item, dict) or not {"start", "end", "label"} <= item.keys():
        raise InputError(f"a span has start, end and label: {_SPAN_FORM}. Got {shown(item)} instead")
    start, end = item["start"], item["end"]
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
        raise InputError(f"span {shown(start)} to {shown(end)} must be characters of the text, 0 to {len(text)}")
    return Span(start=start, end=end, label=_label(item["label"]))


def _told(span: Span) -> str:
    return f"span {span.start} to {span.end} ({span.label})"


TARGETS = {
    "label": Target(("label",), _with_label),
    "labels": Target(("labels",), _with_labels),
    "score": Target(("score",), _with_score),
    "spans": Target(("entities", "tags"), _with_spans),
}
