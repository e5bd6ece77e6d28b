"""The order in which rows are visited."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

GROUP_BATCHES = (
    50  # batches sorted by length together: attention meets few lengths at once, and it is still a random order
)


def visit(lengths: npt.NDArray[np.int32], *, batch_size: int, seed: int, epoch: int) -> Iterator[npt.NDArray[np.intp]]:
    """Give the batches of one epoch: shuffled, rows of like length together and sorted, every row once.

    The order depends on the seed and the epoch alone, so a resumed run goes on where it stopped.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    stretch = batch_size * GROUP_BATCHES
    batches = []
    for start in range(0, len(order), stretch):
        group = order[start : start + stretch]
        group = group[np.argsort(lengths[group], kind="stable")]
        batches += [group[first : first + batch_size] for first in range(0, len(group), batch_size)]
    return (batches[index] for index in generator.permutation(len(batches)))


def visit_from(
    step: int, lengths: npt.NDArray[np.int32], *, batch_size: int, seed: int, epochs: int
) -> Iterator[npt.NDArray[np.intp]]:
    """Give the batches of a whole run from a step on, counted from 0."""
    steps_an_epoch = num_batches(len(lengths), batch_size=batch_size)
    for epoch in range(step // steps_an_epoch, epochs):
        batches = visit(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
        yield from islice(batches, max(0, step - epoch * steps_an_epoch), None)


def num_batches(num_rows: int, *, batch_size: int) -> int:
    """Count the batches of an epoch."""
    return -(-num_rows // batch_size)  # stretches are whole batches, so only the last batch is short
