"""Logits and metrics of a model in training, over one or several processes."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from runtime.batching import plan
from runtime.encode import Encoded
from runtime.records import Record

from .losses import Floats
from .metrics import Metrics
from .network import Network
from .objectives import Objective

MAX_BATCH_TOKENS = 4096  # bounds memory; evaluation has no gradients to keep


def compute_logits(wrapped: Any, encoded: Encoded, *, accelerator: Accelerator) -> list[Floats]:
    """Compute the logits of all rows on all processes: per row (C,), or (t, C) for a tagger.

    Args:
        wrapped: a `Network` as accelerate prepared it.
        encoded: the rows.
        accelerator: that prepared it.
    """
    network: Network = accelerator.unwrap_model(
        wrapped
    )  # processes differ in batches, and DDP would wait for its twin's
    network.eval()
    lengths = encoded.batch.lengths
    batches = plan(lengths, max_batch_tokens=MAX_BATCH_TOKENS)
    found = list[tuple[int, Floats]]()
    for indices in batches[accelerator.process_index :: accelerator.num_processes]:
        batch = encoded.batch.take(indices)
        with torch.no_grad():
            logits = network(network.feed(batch)).float().cpu().numpy()
        found += zip(indices.tolist(), network.split(logits, batch.lengths), strict=True)
    if accelerator.num_processes > 1:
        found = gather_object(found)
    ordered = dict(found)
    return [ordered[index] for index in range(len(lengths))]


def evaluate(
    wrapped: Any,
    records: Sequence[Record],
    encoded: Encoded,
    *,
    objective: Objective,
    labels: tuple[str, ...],
    accelerator: Accelerator,
) -> Metrics:
    """Measure a model on labelled rows."""
    logits = compute_logits(wrapped, encoded, accelerator=accelerator)
    return objective.measure(logits, records, encoded.tokens, labels)
