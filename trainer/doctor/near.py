"""Texts to measure on that are nearly texts to learn from.

Both are cut into runs of five characters, case and punctuation aside. MinHash (Broder 1997) with locality-sensitive hashing proposes
pairs, and each is kept or dropped by its true Jaccard similarity, so what is counted is no estimate.
"""

import re
from collections.abc import Iterator, Sequence

from runtime.records import Record

from .finding import Found
from .splits import Dataset, Key, Split, texts_of

RUN = 5  # characters; a word and its ends, so that a changed word costs few of a sentence's runs
# Two texts with four fifths of their runs in common read as one: a changed ending, an added word. In a sentence of 60 characters one
# other word of five letters leaves 47 of 65 runs, .72, and does say something else ("for 5 minutes", "for 9 minutes").
SIMILAR = 0.8
SHORTEST = 20  # runs; below it one letter decides, so shorter texts must be equal but for case and punctuation
# 32 bands of 4 rows: a pair of similarity .8 shares a band with probability 1 - (1 - .8^4)^32 = 1 - 5e-8. Many proposals, none missed.
PERMUTATIONS, BANDS = 128, 32
MOST_ROWS = 200_000  # some ten seconds; above it --near is needed

_GAP = re.compile(r"[\W_]+")


def find_near_leaks(data: Dataset) -> Iterator[Found]:
    """Tell rows to measure on that are nearly training rows; those that are exactly so are another rule's."""
    if not data.others or not data.train.records:
        return
    from rensa import RMinHashLSH

    index = RMinHashLSH(threshold=SIMILAR, num_perm=PERMUTATIONS, num_bands=BANDS)
    asked: list[tuple[Split, Record]] = []
    for split in data.others:
        for key, record in zip(split.keys, split.records, strict=True):
            if key not in data.train.lines_by_key and (found := runs(record)):
                index.insert(len(asked), _sketch(found))
                asked.append((split, record))
    nearest = _nearest(index, data.train, asked)
    for split in data.others:
        close = {record.line: nearest[n] for n, (owner, record) in enumerate(asked) if owner is split and n in nearest}
        if close:
            line, (score, other) = max(close.items(), key=lambda item: item[1][0])
            example = f"line {line} and line {other} there are {score * 100:.0f} % alike"
            yield split.tell(close, "are", f"nearly rows of train; their score flatters ({example})")


def runs(record: Record) -> frozenset[str]:
    """Cut a row's texts into runs of characters; those of a second text are marked, so that a pair is compared side by side."""
    return frozenset(
        mark + text[start : start + RUN]
        for mark, text in zip("\0\1", map(_plain, texts_of(record)), strict=False)
        for start in range(max(1, len(text) - RUN + 1) if text else 0)
    )


def similarity(left: frozenset[str], right: frozenset[str]) -> float:
    """Give the Jaccard similarity of two sets of runs, 0 where they are too short to be compared and differ."""
    if min(len(left), len(right)) < SHORTEST:
        return float(left == right)
    return len(left & right) / len(left | right)


def _nearest(index: "object", train: Split, asked: Sequence[tuple[Split, Record]]) -> dict[int, tuple[float, int]]:
    """Find the nearest training row of each row that was asked for: its similarity and line, where similar enough."""
    nearest: dict[int, tuple[float, int]] = {}
    known: dict[int, frozenset[str]] = {}
    seen = set[Key]()
    for key, record in zip(train.keys, train.records, strict=True):
        if key in seen or not (found := runs(record)):
            continue
        seen.add(key)
        for number in index.query(_sketch(found)):  # type: ignore[attr-defined]
            if number not in known:
                known[number] = runs(asked[number][1])
            score = similarity(found, known[number])
            if score >= SIMILAR and score > nearest.get(number, (0.0, 0))[0]:
                nearest[number] = (score, record.line)
    return nearest


def _sketch(found: frozenset[str]) -> "object":
    from rensa import RMinHash

    sketch = RMinHash(num_perm=PERMUTATIONS, seed=0)
    sketch.update(list(found))
    return sketch


def _plain(text: str) -> str:
    return _GAP.sub(" ", text.casefold()).strip()
