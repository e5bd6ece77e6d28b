"""What batches are padded to where steps are CUDA graphs (graphs.py), which know one shape each: a little more than they have, so that there are few."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TOKENS, LONGEST = 64, 8  # the least that numbers of tokens, and of the longest text's, differ by
LEAST_STEPS = 8  # of a shape, for which it gets a graph: making one costs as much as three steps


class BatchShape(NamedTuple):
    """`num_texts` texts, none longer than `longest` tokens, and `num_tokens` tokens together."""

    num_texts: int
    num_tokens: int
    longest: int


def shape_of(lengths: npt.NDArray[np.int32]) -> BatchShape:
    """Give the shape that texts of some lengths are padded to: at most an eighth more tokens, but for small batches."""
    return BatchShape(len(lengths), _rounded_up(int(lengths.sum()), TOKENS), _rounded_up(int(lengths.max()), LONGEST))


def frequent_shapes(
    lengths: npt.NDArray[np.int32], batches: Iterable[npt.NDArray[np.intp]], *, epochs: int
) -> dict[BatchShape, int]:
    """Choose the shapes that a run meets often enough, going by its first epoch; so a resumed run chooses the same.

    Give how many batches of the epoch each has.

    Args:
        lengths: (N,) tokens of each row.
        batches: the rows of each batch of an epoch.
        epochs: of the run.
    """
    counts = Counter(shape_of(lengths[batch]) for batch in batches)
    return {shape: count for shape, count in counts.items() if count * epochs >= LEAST_STEPS}


def _rounded_up(number: int, least: int) -> int:
    """Round up to a multiple of an eighth of the power of two below, or of `least` where that is more."""
    step = max(least, 1 << max(0, number.bit_length() - 4))
    return -(-number // step) * step
