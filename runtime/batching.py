"""The one scheduler: which texts share a batch.

Engines that need rectangles pay for padding, so texts of like length go together, and a batch is bounded by its padded tokens, not by a count of
texts: 512 tokens are 32 short questions or one long letter.
"""

import numpy as np
import numpy.typing as npt

from .errors import InputError

MAX_BATCH_TOKENS = 512  # throughput is flat from 256 to 2,048 on two cores (docs/LOG.md); a small batch keeps memory and latency low


def plan(lengths: npt.NDArray[np.int32], *, max_batch_tokens: int = MAX_BATCH_TOKENS) -> list[npt.NDArray[np.intp]]:
    """Group texts into batches.

    Args:
        lengths: (B,) tokens of each text.
        max_batch_tokens: the most tokens in a batch, padding counted; a longer text goes alone.

    Returns:
        Index arrays that together hold every text once, longest batch first (so that engines allocate their largest buffers once).
    """
    if max_batch_tokens < 1:
        raise InputError(f"max_batch_tokens must be a positive integer. Got {max_batch_tokens} instead.")
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, max_batch_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
