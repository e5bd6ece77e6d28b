"""Scores of a regression: those that never change, those that are none of the rest's, and splits whose unit is another."""

from collections.abc import Iterator

import numpy as np

from .finding import Found
from .splits import Dataset, Split

# Nine of ten scores lie in a middle; five times its width beside it lies nothing of a bell curve (that is at 18 deviations), and of e to its power one in 3,000.
FAR = 5.0
ENOUGH = 40  # scores, for a twentieth of them to mean something
# Of scores like train's hardly any lies outside of what n rows have, each by a chance of 2 in n.
OUTSIDE, FEWEST = 0.1, 5


def find_one_score(data: Dataset) -> Iterator[Found]:
    """Tell where there is nothing to learn."""
    scores = _scores(data.train)
    if len(scores) and scores.min() == scores.max():
        message = f"has one score alone, {scores[0]:g}; a model needs different ones to learn."
        yield Found("train", len(scores), 0, (), message)


def find_far_scores(data: Dataset) -> Iterator[Found]:
    """Tell scores so far from the others that their square errors would be all that is learned."""
    for split in data.splits:
        scores = _scores(split)
        if len(scores) < ENOUGH:
            continue
        low, high = np.quantile(scores, (0.05, 0.95))
        reach = FAR * (high - low)
        far = np.flatnonzero((scores < low - reach) | (scores > high + reach)).tolist() if reach else []
        if far:
            farthest = scores[max(far, key=lambda index: abs(scores[index] - (low + high) / 2))]
            lines = [split.records[index].line for index in far]
            yield split.tell(
                lines, "have", f"scores far from the rest: {farthest:g}, where nine of ten are from {low:g} to {high:g}"
            )


def find_other_units(data: Dataset) -> Iterator[Found]:
    """Tell splits with many scores that train has nothing like."""
    ours = _scores(data.train)
    if not len(ours):
        return
    low, high = ours.min(), ours.max()
    for split in data.others:
        scores = _scores(split)
        outside = np.flatnonzero((scores < low) | (scores > high)).tolist()
        if len(outside) >= max(FEWEST, OUTSIDE * len(scores)):
            lines = [split.records[index].line for index in outside]
            yield split.tell(
                lines,
                "have",
                f"scores that train has nothing like: from {scores.min():g} to {scores.max():g}, there from {low:g} to {high:g}",
            )


def _scores(split: Split) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([record.score for record in split.records if record.score is not None], dtype=np.float64)
