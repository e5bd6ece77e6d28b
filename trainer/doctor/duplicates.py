"""The same text twice: in one split, with different truths, or on both sides of a measurement."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from runtime.records import Record

from .finding import Found, counted, first_lines
from .splits import Dataset, Key, Split, truth_of


def by_key(split: Split) -> Mapping[Key, Sequence[Record]]:
    """Gather the records of each text."""
    found: dict[Key, list[Record]] = defaultdict(list)
    for key, record in zip(split.keys, split.records, strict=True):
        found[key].append(record)
    return found


def find_duplicates(data: Dataset) -> Iterator[Found]:
    """Tell rows whose text and truth an earlier row of the split has."""
    for split in data.splits:
        again = list[int]()
        for records in by_key(split).values():
            truths = set()
            for record in records:
                if truth_of(record) in truths:
                    again.append(record.line)
                truths.add(truth_of(record))
        if again:
            yield split.tell(again, "repeat", "an earlier row, label and all")


def find_conflicts(data: Dataset) -> Iterator[Found]:
    """Tell texts that a split labels in more than one way."""
    for split in data.splits:
        torn = [rows for rows in by_key(split).values() if len(set(map(truth_of, rows))) > 1]
        if torn:
            lines = [record.line for rows in torn for record in rows]
            noun = "text occurs" if len(torn) == 1 else "texts occur"
            message = f"{len(torn):,} {noun} with different truths, in {counted(len(lines), 'row')}."
            yield Found(split.name, len(torn), split.num_rows, first_lines(lines), message)


def find_leaks(data: Dataset) -> Iterator[Found]:
    """Tell rows to measure on that are also learned from."""
    for split in data.others:
        yield from _shared(split, data.train, "their score flatters")


def find_eval_in_test(data: Dataset) -> Iterator[Found]:
    """Tell test rows that the weights are also chosen by."""
    if len(data.others) == 2:
        yield from _shared(data.others[1], data.others[0], "the weights are chosen by them, so their score flatters")


def find_swapped_pairs(data: Dataset) -> Iterator[Found]:
    """Tell pairs that stand in the training rows the other way round."""
    first = data.train.lines_by_key
    for split in data.splits:
        swapped = [
            (record.line, first[key[::-1]])
            for key, record in zip(split.keys, split.records, strict=True)
            if record.text_pair is not None and key[0] != key[1] and key[::-1] in first
        ]
        if split is data.train:  # both ways stand in one split: the later one is told
            swapped = [(line, other) for line, other in swapped if other < line]
        if swapped:
            yield split.tell(
                [line for line, _ in swapped], "are", f"pairs of train the other way round{_example(swapped[0], split)}"
            )


def _shared(split: Split, other: Split, therefore: str) -> Iterator[Found]:
    there = other.lines_by_key
    shared = [(r.line, there[key]) for key, r in zip(split.keys, split.records, strict=True) if key in there]
    if shared:
        example = f"line {shared[0][0]} is line {shared[0][1]} there"
        yield split.tell([line for line, _ in shared], "stand", f"in {other.name} too; {therefore} ({example})")


def _example(pair: tuple[int, int], split: Split) -> str:
    return f" (line {pair[0]} is line {pair[1]}{' of train' * (split.name != 'train')})"
