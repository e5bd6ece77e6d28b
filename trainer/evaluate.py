"""Logits and metrics of a model in training, over one or several processes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from runtime.batching import plan
from runtime.encode import Encoded
from runtime.records import Record

from .collate import collate
from .metrics import Metrics
from .objectives import Objective

MAX_BATCH_TOKENS = 4096  # bounds memory; evaluation has no gradients to keep


def compute_logits(
    model: Any, encoded: Encoded, *, accelerator: Accelerator, inputs: tuple[str, ...], pad_token_id: int
) -> list[npt.NDArray[np.float32]]:
    """Compute the logits of all rows on all processes: per row (C,), or (t, C) for a tagger."""
    model = accelerator.unwrap_model(model)  # processes differ in batches, and DDP would wait for its twin's
    model.eval()
    lengths = encoded.batch.lengths
    targets = [np.array(0.0, dtype=np.float32)] * len(lengths)
    batches = plan(lengths, max_batch_tokens=MAX_BATCH_TOKENS)
    found: list[tuple[int, npt.NDArray[np.float32]]] = []
    for indices in batches[accelerator.process_index :: accelerator.num_processes]:
        batch = collate(encoded, targets, indices, inputs=inputs, pad_token_id=pad_token_id)
        with torch.no_grad():
            logits = model(**{name: tensor.to(accelerator.device) for name, tensor in batch.inputs.items()}).logits
        rows = logits.float().cpu().numpy()  # (B, C) or (B, S, C)
        found += [
            (int(index), row[: lengths[index]] if row.ndim == 2 else row)
            for index, row in zip(indices, rows, strict=True)
        ]
    if accelerator.num_processes > 1:
        found = gather_object(found)
    ordered = dict(found)
    return [ordered[index] for index in range(len(lengths))]


def evaluate(
    model: Any,
    records: Sequence[Record],
    encoded: Encoded,
    *,
    objective: Objective,
    labels: tuple[str, ...],
    accelerator: Accelerator,
    inputs: tuple[str, ...],
    pad_token_id: int,
) -> Metrics:
    """Measure a model on labelled rows."""
    logits = compute_logits(model, encoded, accelerator=accelerator, inputs=inputs, pad_token_id=pad_token_id)
    return objective.measure(logits, records, encoded.tokens, labels)
