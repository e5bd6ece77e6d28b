"""The order in which rows are visited, and how many make a batch: so many rows, or so many tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

GROUP_BATCHES = (
    50  # batches sorted by length together: attention meets few lengths at once, and it is still a random order
)


@dataclass(frozen=True, kw_only=True)
class Visits:
    """The batches of a run. They depend on what stands here alone, so a resumed run goes on where it stopped.

    Attributes:
        lengths: (N,) tokens of each row.
        batch_size: rows of a batch; the last one of an epoch may have fewer.
        batch_tokens: tokens of a batch, about; instead of `batch_size` where it is set. Batches of short rows have more of them.
        seed: of the order.
    """

    lengths: npt.NDArray[np.int32]
    batch_size: int
    batch_tokens: int | None
    seed: int

    @property
    def num_batches(self) -> int:
        """Count the batches of an epoch, which are as many in each."""
        if self.batch_tokens is None:
            return -(-len(self.lengths) // self.batch_size)
        return min(len(self.lengths), -(-int(self.lengths.sum()) // self.batch_tokens))

    def epoch(self, number: int) -> Iterator[npt.NDArray[np.intp]]:
        """Give the batches of an epoch: shuffled, rows of like length together and sorted, every row once."""
        generator = np.random.default_rng([self.seed, number])
        order = generator.permutation(len(self.lengths))
        batches = []
        for group, count in self._stretches(order):
            group = group[np.argsort(self.lengths[group], kind="stable")]
            batches += np.split(group, self._cuts(group, count))
        return (batches[index] for index in generator.permutation(len(batches)))

    def from_step(self, step: int, *, epochs: int) -> Iterator[npt.NDArray[np.intp]]:
        """Give the batches of a whole run from a step on, counted from 0."""
        for epoch in range(step // self.num_batches, epochs):
            yield from islice(self.epoch(epoch), max(0, step - epoch * self.num_batches), None)

    def _stretches(self, order: npt.NDArray[np.intp]) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
        """Cut an order into stretches that are sorted by themselves, and say how many batches each gives."""
        if self.batch_tokens is None:
            stretch = self.batch_size * GROUP_BATCHES  # whole batches, so only the last batch is short
            for start in range(0, len(order), stretch):
                group = order[start : start + stretch]
                yield group, -(-len(group) // self.batch_size)
            return
        counts = [GROUP_BATCHES] * (self.num_batches // GROUP_BATCHES)
        if rest := self.num_batches % GROUP_BATCHES:
            counts.append(rest)
        ends = np.cumsum(counts) * len(order) // self.num_batches  # as many rows a batch in each: at least one
        for group, count in zip(np.split(order, ends[:-1]), counts, strict=True):
            yield group, count

    def _cuts(self, group: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
        """Say where a sorted stretch is cut into `count` batches."""
        if self.batch_tokens is None:
            return np.arange(1, count) * self.batch_size
        tokens = np.cumsum(self.lengths[group])
        cuts = np.searchsorted(tokens, tokens[-1] * np.arange(1, count) / count)
        # A row longer than a batch would leave the next one empty: each has at least one.
        places = np.arange(1, count)
        return np.minimum(np.maximum.accumulate(np.maximum(cuts - places, 0)) + places, len(group) - count + places)
