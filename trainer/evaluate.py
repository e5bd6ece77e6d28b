"""Logits and metrics of a model in training, and of the kept one as it is shipped, over one or several processes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from runtime.batching import plan
from runtime.encode import Encoded
from runtime.records import Record

from .calibration import Calibration, Evidence, centre, gather, learn
from .collate import collate
from .config import TrainConfig
from .metrics import Metrics
from .objectives import Objective, Target

Rows: TypeAlias = tuple[Sequence[Record], Encoded, list[Target]]

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


class Shipped(NamedTuple):
    """What the kept weights reach as they are shipped: with their calibration.

    Attributes:
        measured: on the evaluation rows, where there are any.
        tested: on the test rows, where there are any.
        calibration: what was learned on the evaluation rows; None where nothing was.
        evidence: what it was learned from.
    """

    measured: Metrics | None
    tested: Metrics | None
    calibration: Calibration | None
    evidence: Evidence | None


def measure_shipped(
    model: Any,
    rows: Mapping[str, Rows],
    *,
    config: TrainConfig,
    objective: Objective,
    labels: tuple[str, ...],
    accelerator: Accelerator,
    inputs: tuple[str, ...],
    pad_token_id: int,
) -> Shipped:
    """Calibrate a model on the evaluation rows, and measure it on these and on the test rows.

    Args:
        model: with the kept weights.
        rows: records, token ids and targets by split: "eval", "test" or both.
        config: whether to calibrate, and from which precision to abstain.
        objective: the task.
        labels: the label of each logit.
        accelerator: the processes.
        inputs: names of the model's inputs.
        pad_token_id: what pads.
    """
    feed: dict[str, Any] = {"accelerator": accelerator, "inputs": inputs, "pad_token_id": pad_token_id}
    logits = {split: compute_logits(model, encoded, **feed) for split, (_, encoded, _) in rows.items()}
    evidence: dict[str, Evidence] = {}
    if config.calibrate and objective.likelihood is not None:
        evidence = {split: gather(logits[split], rows[split][2], objective.likelihood) for split in rows}
    calibration = None
    if "eval" in evidence:
        learned = learn(evidence["eval"], abstain_precision=config.abstain_precision)
        calibration = learned._replace(worth={split: learned.assess(found) for split, found in evidence.items()})
    reached = {
        split: objective.measure(centre(logits[split], calibration), records, encoded.tokens, labels)
        for split, (records, encoded, _) in rows.items()
    }
    return Shipped(reached.get("eval"), reached.get("test"), calibration, evidence.get("eval"))
