"""Tag sequences as they stand in the file; the reader takes every common scheme, so nothing here stops it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from runtime.conll import entities

from .finding import Found, counted, first_lines
from .splits import Dataset, Split

# In IOB1 an entity begins with I-, and with B- only next to one of its own type. So where nine entities of ten begin with I- the file means it.
MEANT = 0.9
_GOES_ON = "IMEL"  # prefixes of tags that continue an entity


def find_iob1(data: Dataset) -> Iterator[Found]:
    """Tell files in which entities begin with I-."""
    for split in data.splits:
        tags = tags_of(split, data.label_columns)
        dangling, starts = _dangling(tags), _num_entities(tags)
        if dangling and len(dangling) >= MEANT * starts:
            num_b = sum(tag[0] == "B" for sequence in tags.values() for tag in sequence)
            few = f"{num_b:,} tags begin with B-" if num_b else "no tag begins with B-"
            message = f"is IOB1: {len(dangling):,} of {starts:,} entities begin with I-, {few}."
            lines = {line for line, _ in dangling}
            yield Found(split.name, len(dangling), starts, first_lines(lines), message)


def find_transitions(data: Dataset) -> Iterator[Found]:
    """Tell tags that go on with an entity that is not there, in files whose entities begin with B-."""
    for split in data.splits:
        tags = tags_of(split, data.label_columns)
        dangling = _dangling(tags)
        if dangling and len(dangling) < MEANT * _num_entities(tags):
            lines = {line for line, _ in dangling}
            common = Counter(step for _, step in dangling).most_common(3)
            told = ", ".join(f"{step} ({number:,})" for step, number in common)
            yield split.tell(
                lines, "hold", f"{counted(len(dangling), 'tag')} that go on with an entity that is not there: {told}"
            )


def tags_of(split: Split, columns: Sequence[str]) -> dict[int, list[str]]:
    """Give the tags of each row that has one a word, by line."""
    found: dict[int, list[str]] = {}
    for record in split.records:
        values = split.rows[record.line].values if record.line in split.rows else {}
        cell = next((values[name] for name in columns if name in values), None)
        if record.words is not None and isinstance(cell, list) and all(isinstance(tag, str) for tag in cell):
            found[record.line] = cell
    return found


def _dangling(tags: Mapping[int, Sequence[str]]) -> list[tuple[int, str]]:
    """Find where an entity begins with a tag that goes on: its row's line, and "I-LOC after O"."""
    return [
        (line, f"{sequence[start]} after {sequence[start - 1] if start else 'the beginning'}")
        for line, sequence in tags.items()
        for start, _, _ in entities(sequence)
        if sequence[start][0] in _GOES_ON
    ]


def _num_entities(tags: Mapping[int, Sequence[str]]) -> int:
    return sum(len(entities(sequence)) for sequence in tags.values())
