"""Logits and metrics of a model in training, and of the kept one as it is shipped, over one or several processes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from runtime.batching import plan
from runtime.encode import Encoded
from runtime.records import Record

from .calibration import Calibration, centre, learn
from .config import TrainConfig
from .evidence import Evidence, gather
from .hardest import Answers
from .losses import Floats, Target
from .metrics import Metrics
from .network import Network
from .objectives import Objective
from .scale import Scale
from .slices import Slice, measure_slices

Rows: TypeAlias = tuple[Sequence[Record], Encoded, list[Target]]

MAX_BATCH_TOKENS = 4096  # bounds memory; evaluation has no gradients to keep


def compute_logits(
    wrapped: Any, encoded: Encoded, *, accelerator: Accelerator, scale: Scale | None = None
) -> list[Floats]:
    """Compute the logits of all rows on all processes: per row (C,), or (t, C) for a tagger.

    Args:
        wrapped: a `Network` as accelerate prepared it.
        encoded: the rows.
        accelerator: that prepared it.
        scale: what its logits stand for, where that is another than themselves.
    """
    # Unwrapped: processes differ in batches, and DDP would wait for its twin's.
    network: Network = accelerator.unwrap_model(wrapped)
    found = answer(network, encoded, part=accelerator.process_index, num_parts=accelerator.num_processes)
    if accelerator.num_processes > 1:
        found = dict(gather_object(list(found.items())))
    logits = [found[index] for index in range(len(encoded.batch.lengths))]
    return scale.to_scores(logits) if scale else logits


def answer(network: Network, encoded: Encoded, *, part: int = 0, num_parts: int = 1) -> dict[int, Floats]:
    """Compute the logits of the rows of every `num_parts`-th batch, from number `part` on, by their index: (C,), or (t, C) for a tagger."""
    network.eval()
    found = dict[int, Floats]()
    for indices in plan(encoded.batch.lengths, max_batch_tokens=MAX_BATCH_TOKENS)[part::num_parts]:
        batch = encoded.batch.take(indices)
        with torch.no_grad():
            logits = network(network.feed(batch)).float().cpu().numpy()
        found.update(zip(indices.tolist(), network.split(logits, batch.lengths), strict=True))
    return found


def evaluate(
    wrapped: Any,
    records: Sequence[Record],
    encoded: Encoded,
    *,
    objective: Objective,
    labels: tuple[str, ...],
    accelerator: Accelerator,
    scale: Scale | None = None,
) -> Metrics:
    """Measure a model on labelled rows."""
    logits = compute_logits(wrapped, encoded, accelerator=accelerator, scale=scale)
    return objective.measure(logits, records, encoded.tokens, labels)


class Shipped(NamedTuple):
    """What the kept weights reach as they are shipped: with their calibration.

    Attributes:
        measured: on the evaluation rows, where there are any.
        tested: on the test rows, where there are any.
        calibration: what was learned on the evaluation rows; None where nothing was.
        evidence: what it was learned from.
        answers: the evaluation rows beside what is answered to them, where there are any.
        slices: what is reached on each group of them.
    """

    measured: Metrics | None
    tested: Metrics | None
    calibration: Calibration | None
    evidence: Evidence | None
    answers: Answers | None = None
    slices: Sequence[Slice] = ()


def measure_shipped(
    wrapped: Any,
    rows: Mapping[str, Rows],
    *,
    config: TrainConfig,
    objective: Objective,
    labels: tuple[str, ...],
    accelerator: Accelerator,
    scale: Scale | None = None,
    groups: Sequence[str] = (),
) -> Shipped:
    """Calibrate a model on the evaluation rows, and measure it on these and on the test rows.

    Args:
        wrapped: a `Network` with the kept weights, as accelerate prepared it.
        rows: records, token ids and targets by split: "eval", "test" or both.
        config: whether to calibrate, and from which precision to abstain.
        objective: the task.
        labels: the label of each logit.
        accelerator: that prepared it.
        scale: what its logits stand for, where that is another than themselves.
        groups: of each evaluation row, the one it is measured with as well; empty for none.
    """
    logits = {
        split: compute_logits(wrapped, encoded, accelerator=accelerator, scale=scale)
        for split, (_, encoded, _) in rows.items()
    }
    evidence: dict[str, Evidence] = {}
    if config.calibrate and objective.likelihood is not None:
        evidence = {split: gather(logits[split], rows[split][2], objective.likelihood) for split in rows}
    calibration = None
    if "eval" in evidence:
        learned = learn(evidence["eval"], abstain_precision=config.abstain_precision)
        calibration = learned._replace(worth={split: learned.assess(found) for split, found in evidence.items()})
    centred = {split: centre(found, calibration) for split, found in logits.items()}
    reached = {
        split: objective.measure(centred[split], records, encoded.tokens, labels)
        for split, (records, encoded, _) in rows.items()
    }
    answers, slices = None, list[Slice]()
    if "eval" in rows:
        records, encoded, targets = rows["eval"]
        answers = Answers(logits["eval"], records, encoded.tokens, targets, labels, calibration)
        if groups:
            slices = measure_slices(
                groups, centred["eval"], records, encoded.tokens, objective=objective, labels=labels
            )
    return Shipped(reached.get("eval"), reached.get("test"), calibration, evidence.get("eval"), answers, slices)
