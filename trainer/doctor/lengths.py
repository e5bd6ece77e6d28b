"""How long texts are, and how many are too long for a model."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .finding import Found
from .ruler import Ruler
from .splits import Dataset, Split, texts_of

# Three times as long as 99 of 100: rows that ran together, or a whole page in one cell. Reviews, which vary as much as texts do, stay below.
OUTLIER = 3.0
ENOUGH = 200  # texts, for a hundredth of them to mean something


class Lengths(NamedTuple):
    """How long the texts of a split are."""

    median: int
    most: int  # nineteen of twenty are no longer
    longest: int


def lengths_of(split: Split, ruler: Ruler) -> Lengths | None:
    """Sum up how long the texts of a split are; None where it has none."""
    if not split.records:
        return None
    median, most, longest = np.quantile(ruler.measure(split.records), (0.5, 0.95, 1.0), method="inverted_cdf")
    return Lengths(int(median), int(most), int(longest))


def find_truncated(data: Dataset) -> Iterator[Found]:
    """Tell texts that a model would cut."""
    ruler = data.ruler
    for split in data.splits:
        if not split.records:
            continue
        long = np.flatnonzero(ruler.measure(split.records) > ruler.max_length)
        if len(long):
            lines = [split.records[index].line for index in long.tolist()]
            verb, told = "are", f"longer than {ruler.max_length:,} {ruler.unit}"
            if not ruler.counts_tokens:
                verb, told = (
                    "have",
                    f"more than {ruler.max_length:,} words, so more tokens than that; --model counts tokens",
                )
            yield split.tell(lines, verb, told)


def find_outliers(data: Dataset) -> Iterator[Found]:
    """Tell texts much longer than nearly all others: rows that ran together, or the wrong column."""
    for split in data.splits:
        characters = np.array([sum(map(len, texts_of(record))) for record in split.records])
        if len(characters) < ENOUGH:
            continue
        usual = float(np.quantile(characters, 0.99))
        far = np.flatnonzero(characters > OUTLIER * usual)
        if len(far):
            lines = [split.records[index].line for index in far.tolist()]
            yield split.tell(
                lines,
                "are",
                f"far longer than the rest: up to {characters.max():,} characters, where 99 % have at most {usual:,.0f}",
            )
