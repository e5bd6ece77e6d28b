"""Which texts share a batch, and how a batch becomes a rectangle where one is needed.

Engines that need rectangles pay for padding, so texts of like length go together, and a batch is bounded by its padded tokens, not by a count of
texts: 512 tokens are 32 short questions or one long letter.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .encode import Batch, Ints
from .errors import InputError

MAX_BATCH_TOKENS = (
    512  # throughput is flat from 256 to 2,048 on two cores (docs/LOG.md); a small batch keeps memory and latency low
)


def plan(
    lengths: npt.NDArray[np.int32], *, max_batch_tokens: int = MAX_BATCH_TOKENS, num_lanes: int = 1
) -> list[npt.NDArray[np.intp]]:
    """Group texts into batches.

    Args:
        lengths: (B,) tokens of each text.
        max_batch_tokens: the most tokens in a batch, padding counted; a longer text goes alone.
        num_lanes: how many batches are computed at once; few texts are spread over all of them.

    Returns:
        Index arrays that together hold every text once, longest batch first (so that engines allocate their largest buffers once).
    """
    if max_batch_tokens < 1:
        raise InputError(f"max_batch_tokens must be a positive integer. Got {max_batch_tokens} instead.")
    order = np.argsort(-lengths, kind="stable")
    budget = max_batch_tokens
    if num_lanes > 1:
        budget = min(budget, -(-int(lengths.sum()) // num_lanes))
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


class Padded(NamedTuple):
    """A batch as a rectangle: arrays (B, S) by input name, and where they hold tokens, (B, S)."""

    feeds: dict[str, Ints]
    mask: npt.NDArray[np.bool_]


def pad(batch: Batch, *, inputs: Iterable[str], pad_token_id: int) -> Padded:
    """Pad a batch on the right to its longest text.

    Args:
        batch: B packed texts.
        inputs: the names to give, among input_ids, attention_mask and token_type_ids.
        pad_token_id: what input_ids are filled with.
    """
    mask = np.arange(batch.lengths.max()) < batch.lengths[:, None]  # (B, S)
    feeds: dict[str, Ints] = {"attention_mask": mask.astype(np.int64)}
    for name, packed, fill in (
        ("input_ids", batch.input_ids, pad_token_id),
        ("token_type_ids", batch.token_type_ids, 0),
    ):
        feeds[name] = np.full(mask.shape, fill, dtype=np.int64)
        feeds[name][mask] = packed  # row after row, as the texts are packed
    return Padded({name: feeds[name] for name in inputs}, mask)
