"""Rows of a batch to rectangles of tensors, and the order in which rows are visited."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from runtime.batching import pad
from runtime.encode import Encoded

from .objectives import IGNORED, Target

GROUP_BATCHES = 50  # batches sorted by length together: little padding, and still a random order


class Rectangle(NamedTuple):
    """A padded batch: the model's inputs (B, S), and the targets (B,), (B, C) or (B, S)."""

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor


def collate(
    encoded: Encoded,
    targets: Sequence[Target],
    indices: npt.NDArray[np.intp],
    *,
    inputs: tuple[str, ...],
    pad_token_id: int,
) -> Rectangle:
    """Pad the rows of a batch to its longest, on the right.

    Args:
        encoded: all rows.
        targets: all targets.
        indices: (B,) the batch.
        inputs: names of the model's inputs.
        pad_token_id: what input_ids are filled with.
    """
    padded = pad(encoded.batch.take(indices), inputs=inputs, pad_token_id=pad_token_id)
    targets_of_batch = _stack([targets[index] for index in indices], padded.mask)
    return Rectangle(
        {name: torch.from_numpy(array) for name, array in padded.feeds.items()}, torch.from_numpy(targets_of_batch)
    )


def _stack(targets: Sequence[Target], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    if targets[0].dtype != np.int64 or targets[0].ndim == 0:
        return np.stack(targets)
    rectangle = np.full(mask.shape, IGNORED, dtype=np.int64)
    rectangle[mask] = np.concatenate(targets)
    return rectangle


def visit(lengths: npt.NDArray[np.int32], *, batch_size: int, seed: int, epoch: int) -> Iterator[npt.NDArray[np.intp]]:
    """Give the batches of one epoch: shuffled, rows of like length together, every row once.

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


def num_batches(num_rows: int, *, batch_size: int) -> int:
    """Count the batches of an epoch."""
    return -(-num_rows // batch_size)  # stretches are whole batches, so only the last batch is short
