"""What `--fix` changes: which rows are left out and why, and which cells are written anew. Nothing is written here.

    cells     texts decoded wrongly, labels in an odd spelling
    rows      cannot be used → contradicts most of its text's rows → repeats an earlier row → stands in eval or test → has no known label

In this order, for a repaired text may repeat another, and what a text's rows agree on has to be counted before repeats go.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.problems import Problem
from runtime.records import Columns, Record, to_records
from runtime.tables import Row

from .characters import repaired
from .duplicates import by_key
from .labels import spellings
from .splits import Dataset, Key, Split, labels_of, truth_of
from .unusable import known_labels

# Why rows are left out, and what is changed, as it is told after a number.
UNUSABLE, CONFLICT, REPEAT = "unusable", "contradicting other rows of their text", "repeating an earlier row"
LEAK, UNKNOWN = "standing in eval or test", "with labels that train has not"
TEXT, LABEL, LEFT = (
    "texts repaired",
    "labels respelled",
    "rows left as they are, for the file cannot hold them repaired",
)


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """What becomes of one split.

    Attributes:
        split: as it was read.
        records: those that stay, as they will be read.
        values: the new values of rows that change, by line.
        dropped: how many rows are left out for each reason.
        changes: how many cells of a row change in which way, by line.
    """

    split: Split
    records: Sequence[Record]
    values: Mapping[int, dict[str, Any]]
    dropped: Counter[str] = field(default_factory=Counter)
    changes: Mapping[int, Counter[str]] = field(default_factory=dict)

    @property
    def changed(self) -> Counter[str]:
        """Count the cells that change in each way, of the rows that stay."""
        none = Counter[str]()
        return sum((self.changes.get(record.line, none) for record in self.records), none)

    def without(self, lines: set[int], reason: str) -> "Repairs":
        """Leave out more rows."""
        kept = [record for record in self.records if record.line not in lines]
        dropped = self.dropped + Counter({reason: len(self.records) - len(kept)})
        return replace(self, records=kept, dropped=dropped)


def plan_repairs(data: Dataset, columns: Columns, *, can_hold: Callable[[Split, Row], bool]) -> list[Repairs]:
    """Decide what becomes of each split.

    Args:
        data: the splits, with their rows.
        columns: which column holds what.
        can_hold: whether a split's file can hold a row.
    """
    names = spellings(data)
    plans = [_repair_cells(split, data, columns, names, can_hold) for split in data.splits]
    plans = [_drop(plan, _contradicting, CONFLICT) for plan in plans]
    plans = [_drop(plan, _repeating, REPEAT) for plan in plans]
    measured = {key for plan in plans[1:] for key in _as_split(plan).keys}
    plans[0] = _drop(plans[0], lambda split: _standing_in(split, measured), LEAK)
    known = known_labels(replace(data, splits=(_as_split(plans[0]),)))
    return [_drop(plan, lambda split: _unknown(split, known), UNKNOWN) for plan in plans]


def _repair_cells(
    split: Split, data: Dataset, columns: Columns, names: Mapping[str, str], can_hold: Callable[[Split, Row], bool]
) -> Repairs:
    records = list[Record]()
    values: dict[int, dict[str, Any]] = {}
    changes: dict[int, Counter[str]] = {}
    for record in split.records:
        row = split.rows[record.line]
        texts, labels = _new_texts(record, row, columns), _new_labels(row, data, names, columns)
        if texts or labels:
            new = Row(row.line, {**row.values, **texts, **labels})
            again = _read_again(new, data, columns)
            if again is not None and can_hold(split, new):
                values[row.line], record = new.values, again
                changes[row.line] = +Counter({TEXT: len(texts), LABEL: len(labels)})
            else:
                changes[row.line] = Counter({LEFT: 1})
        records.append(record)
    unusable = Counter({UNUSABLE: split.num_rows - len(split.records)})
    return Repairs(split=split, records=records, values=values, dropped=+unusable, changes=changes)


def _new_texts(record: Record, row: Row, columns: Columns) -> dict[str, Any]:
    """Give the texts that change, by column; those of spans do not, for their offsets would be wrong."""
    if record.spans is not None:
        return {}
    cells = {name: row.values[name] for name in (columns.text, columns.text_pair) if name in row.values}
    return {name: repaired(cell) for name, cell in cells.items() if isinstance(cell, str) and repaired(cell) != cell}


def _new_labels(row: Row, data: Dataset, names: Mapping[str, str], columns: Columns) -> dict[str, Any]:
    name = next(name for name in data.label_columns if name in row.values)
    old = row.values[name]
    new = RESPELLED[data.target](old, names, columns)
    return {} if new == old else {name: new}


def _read_again(row: Row, data: Dataset, columns: Columns) -> Record | None:
    problems: list[Problem] = []
    return next(to_records([row], path="", target=data.target, columns=columns, problems=problems), None)


def _respell_one(cell: Any, names: Mapping[str, str], _: Columns) -> Any:
    return names.get(str(cell), cell)


def _respell_several(cell: Any, names: Mapping[str, str], columns: Columns) -> Any:
    if isinstance(cell, str):
        parts = [part.strip() for part in cell.split(columns.label_separator)]
        new = list(dict.fromkeys(names.get(part, part) for part in parts))
        return cell if new == parts else columns.label_separator.join(new)
    return list(dict.fromkeys(names.get(str(label), label) for label in cell))


def _respell_spans(cell: Any, names: Mapping[str, str], _: Columns) -> Any:
    return [_respell_tag(item, names) if isinstance(item, str) else _respell_span(item, names) for item in cell]


def _respell_tag(tag: str, names: Mapping[str, str]) -> str:
    prefix, hyphen, label = tag.partition("-")
    return f"{prefix}{hyphen}{names.get(label, label)}"


def _respell_span(span: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {**span, "label": names.get(str(span["label"]), span["label"])}


# How the labels of a cell are written in other spellings, by what a row is labelled with.
RESPELLED: dict[str, Callable[[Any, Mapping[str, str], Columns], Any]] = {
    "label": _respell_one,
    "labels": _respell_several,
    "spans": _respell_spans,
    "score": lambda cell, names, columns: cell,
}


def _drop(plan: Repairs, choose: Callable[[Split], Iterator[int]], reason: str) -> Repairs:
    return plan.without(set(choose(_as_split(plan))), reason)


def _as_split(plan: Repairs) -> Split:
    return replace(plan.split, records=plan.records)


def _contradicting(split: Split) -> Iterator[int]:
    """Choose the rows that do not say what more than half of their text's rows say."""
    for records in by_key(split).values():
        truths = Counter(map(truth_of, records))
        agreed, number = truths.most_common(1)[0]
        if len(truths) > 1:
            yield from (r.line for r in records if 2 * number <= len(records) or truth_of(r) != agreed)


def _repeating(split: Split) -> Iterator[int]:
    for records in by_key(split).values():  # all with one truth by now
        yield from (record.line for record in records[1:])


def _standing_in(split: Split, measured: set[Key]) -> Iterator[int]:
    return (record.line for key, record in zip(split.keys, split.records, strict=True) if key in measured)


def _unknown(split: Split, known: set[str]) -> Iterator[int]:
    return (record.line for record in split.records if not known.issuperset(labels_of(record)))
