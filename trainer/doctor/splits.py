"""What is looked at: the rows of each split that can be used, and what is wrong with those that cannot."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from runtime.problems import Problem
from runtime.records import Columns, Record
from runtime.tables import Layout, Row, dialect_of

from ..sources import collect_rows, is_file
from .finding import Found, first_lines, share
from .ruler import WORDS, Ruler

Key: TypeAlias = tuple[str, str]  # what two rows share that are the same to a reader: text and second text
Truth: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Split:
    """The rows of one source.

    Attributes:
        name: "train", "eval" or "test".
        source: as the flag takes it.
        records: the rows that can be used, in the source's order.
        problems: what is wrong with the others.
        rows: the rows as they were read, by line, where they were kept.
        literal_quotes: whether double quotes are ordinary characters in the file.
    """

    name: str
    source: str
    records: Sequence[Record]
    problems: Sequence[Problem] = ()
    rows: Mapping[int, Row] = field(default_factory=dict)
    literal_quotes: bool = False

    @cached_property
    def keys(self) -> list[Key]:
        """The key of each record."""
        return [key_of(record) for record in self.records]

    @cached_property
    def lines_by_key(self) -> dict[Key, int]:
        """The first line of each key."""
        return {key: record.line for key, record in reversed(list(zip(self.keys, self.records, strict=True)))}

    @property
    def num_rows(self) -> int:
        """Rows, those that cannot be used among them."""
        return len(self.records) + len({problem.line for problem in self.problems if problem.line is not None})

    def tell(self, lines: Collection[int], verb: str, what: str) -> Found:
        """Tell of rows, one a line: "3 of 872 rows (0.34 %) hold", which is the verb, and what they hold."""
        message = f"{share(len(lines), self.num_rows, verb)} {what}."
        return Found(self.name, len(lines), self.num_rows, first_lines(lines), message)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All splits of a task.

    Attributes:
        splits: "train" first.
        target: the field of a record that holds its truth.
        label_columns: the columns it is read from, the first that is there.
        labels: those that --labels gave.
        ruler: how lengths are measured.
    """

    splits: tuple[Split, ...]
    target: str
    label_columns: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    ruler: Ruler = WORDS

    @property
    def train(self) -> Split:
        """The rows that are learned from."""
        return self.splits[0]

    @property
    def others(self) -> tuple[Split, ...]:
        """The rows that are measured on."""
        return self.splits[1:]


def read_split(name: str, source: str, *, target: str, columns: Columns, layout: Layout) -> Split:
    """Read all that can be read of a source.

    Raises:
        InputError: it cannot be had, or has no such column.
    """
    problems: list[Problem] = []
    rows: dict[int, Row] = {}

    def kept(read: Iterator[Row]) -> Iterator[Row]:
        for row in read:
            rows[row.line] = row
            yield row

    records = collect_rows(
        source, split=name, target=target, columns=columns, layout=layout, problems=problems, through=kept
    ).records
    dialect = dialect_of(source, layout) if is_file(source) else None
    return Split(
        name=name,
        source=source,
        records=records,
        problems=problems,
        rows=rows,
        literal_quotes=dialect is not None and not dialect.quoting,
    )


def key_of(record: Record) -> Key:
    """Tell by what rows are the same: their texts, white space aside, for no model's tokenizer of words sees it."""
    return " ".join(record.text.split()), " ".join((record.text_pair or "").split())


def truth_of(record: Record) -> Truth:
    """Give what a row is labelled with, the order of several labels aside."""
    labels = None if record.labels is None else tuple(sorted(record.labels))
    return record.label, labels, record.score, record.spans


def labels_of(record: Record) -> tuple[str, ...]:
    """Give the names of a row's labels; a score has none."""
    if record.label is not None:
        return (record.label,)
    return record.labels or tuple(span.label for span in record.spans or ())


def texts_of(record: Record) -> tuple[str, ...]:
    """Give a row's text, and its second where there is one."""
    return (record.text,) if record.text_pair is None else (record.text, record.text_pair)
