"""Does the exported model answer as the trained one? Four questions, each with a limit.

token ids  the golden texts, against transformers' own tokenizer
contract   any shape, any mask: ONNX fp32 logits against PyTorch's on the same random input
rows       the evaluation rows, through the runtime as users will run it: logits, decisions, the task's metric
golden     the fixed texts that travel in the bundle
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from runtime.batching import pad
from runtime.bundle import Golden
from runtime.encode import Encoded
from runtime.records import Record
from trainer.checkpoint import Checkpoint

from .errors import ParityError

Floats = npt.NDArray[np.float32]


class Shape(NamedTuple):
    """One input of the contract."""

    batch: int
    sequence: int
    mask: str


class RowFigures(NamedTuple):
    """How a variant answers the evaluation rows.

    Attributes:
        metrics: the task's metrics.
        agreement: share of decisions that are PyTorch's; regression: 1 − mean |difference| / standard deviation of PyTorch's answers.
        differing: decisions that are not PyTorch's.
        decisions: how many there are.
        max_difference: largest difference of a logit from PyTorch's.
        mean_difference: mean difference.
    """

    metrics: dict[str, float]
    agreement: float
    differing: int
    decisions: int
    max_difference: float
    mean_difference: float


def contract_shapes(max_length: int) -> list[Shape]:
    """List batch × sequence from 1×1 to the maximum, with right-, left- and hole-masked rows."""
    sequences = sorted({1, 2, 7, min(33, max_length), max_length})
    shapes = [Shape(1, sequence, "none") for sequence in sequences if sequence <= max_length]
    shapes += [Shape(3, sequence, mask) for sequence in sequences if 1 < sequence <= max_length for mask in MASKS]
    return shapes


def check_contract(
    file: Path, *, model: Any, inputs: tuple[str, ...], pad_token_id: int, max_length: int, limit: float
) -> float:
    """Compare an ONNX graph with PyTorch on random input of every shape.

    Args:
        file: the fp32 graph.
        model: the PyTorch model, in evaluation mode.
        inputs: names of the graph's inputs.
        pad_token_id: stands where the mask is 0.
        max_length: the longest sequence.
        limit: see `difference`.

    Returns:
        The largest difference found.

    Raises:
        ParityError: a shape differs by more than the limit.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    generator, worst, failed = np.random.default_rng(0), 0.0, []
    for shape in contract_shapes(max_length):
        feeds = _random_input(shape, model, inputs, pad_token_id, generator)
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits.numpy()
        actual = session.run(["logits"], feeds)[0]
        if expected.shape != actual.shape:
            failed.append(f"{shape.batch}×{shape.sequence}: PyTorch gives {expected.shape}, ONNX gives {actual.shape}")
            continue
        if expected.ndim == 3:  # what a tagger says of padding means nothing
            seen = feeds["attention_mask"].astype(bool)
            expected, actual = expected[seen], actual[seen]
        found = difference(expected, actual)
        worst = max(worst, found)
        if not found <= limit:  # NaN fails too
            failed.append(f"{shape.batch}×{shape.sequence}, mask {shape.mask}: {found:.2e}")
    if failed:
        raise ParityError(
            "\n  ".join(
                [f"the ONNX graph differs from PyTorch by more than {limit:g}:", *failed, "Try another --exporter."]
            )
        )
    return worst


def check_token_ids(golden: Golden, *, tokenizer: Any, max_length: int) -> None:
    """Compare the token ids of the golden texts with those of the Hugging Face tokenizer the model was trained with.

    Raises:
        ParityError: a text is cut into other tokens.
    """
    for text, input_ids in zip(golden.texts, golden.input_ids, strict=True):
        parts = (text,) if isinstance(text, str) else text
        expected = tokenizer(*parts, truncation=True, max_length=max_length)["input_ids"]
        if list(input_ids) != expected:
            place = next((i for i, (a, b) in enumerate(zip(input_ids, expected, strict=False)) if a != b), "the end")
            raise ParityError(
                f"{text!r} becomes other token ids at prediction than by {type(tokenizer).__name__}, from token {place} on. "
                "Save the tokenizer anew with transformers (tokenizer.save_pretrained), and export again."
            )


def difference(expected: Floats, actual: Floats) -> float:
    """Give the largest difference of two arrays of logits: absolute up to logits of size 1, relative above, as fp32 rounds."""
    return float(np.max(np.abs(expected - actual) / np.maximum(1, np.abs(expected)), initial=0.0))


def torch_logits(
    model: Any, encoded: Encoded, indices: npt.NDArray[np.intp], *, inputs: tuple[str, ...], pad_token_id: int
) -> list[Floats]:
    """Compute PyTorch's logits of some encoded texts as one right-padded batch: per text (C,), or (t, C)."""
    batch = encoded.batch.take(indices)
    feeds = pad(batch, inputs=inputs, pad_token_id=pad_token_id).feeds
    with torch.no_grad():
        logits = model(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits.numpy()
    return [row[:length] if row.ndim == 2 else row for row, length in zip(logits, batch.lengths, strict=True)]


def compare_rows(
    expected: Sequence[Floats],
    actual: Sequence[Floats],
    *,
    checkpoint: Checkpoint,
    records: Sequence[Record],
    encoded: Encoded,
) -> RowFigures:
    """Compare a variant's logits on the evaluation rows with PyTorch's."""
    objective, labels = checkpoint.objective, checkpoint.labels
    judge = (records, encoded.tokens, labels)
    same = PARITY[checkpoint.config.task](objective.decide(expected, *judge), objective.decide(actual, *judge))
    differences = np.concatenate([np.abs(e - a).ravel() for e, a in zip(expected, actual, strict=True)])
    return RowFigures(
        objective.measure(actual, *judge).values, *same, float(differences.max(initial=0.0)), float(differences.mean())
    )


class Sameness(NamedTuple):
    """How far two lists of decisions agree; see RowFigures."""

    agreement: float
    differing: int
    decisions: int


def _equal(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> Sameness:
    differing = int((expected != actual).sum())
    return Sameness(1 - differing / max(1, len(expected)), differing, len(expected))


def _close(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> Sameness:
    spread = max(float(expected.std()), 1e-6)
    share = float(np.abs(expected - actual).mean()) / spread
    return Sameness(max(0.0, 1 - share), int((np.abs(expected - actual) > 0.1 * spread).sum()), len(expected))


# How a task's decisions are compared; the third of the three tables of tasks (runtime.tasks.TASKS, trainer.objectives.OBJECTIVES).
PARITY: dict[str, Callable[[npt.NDArray[Any], npt.NDArray[Any]], Sameness]] = {
    "single-label": _equal,
    "multi-label": _equal,
    "regression": _close,
    "token": _equal,
}


def _random_input(
    shape: Shape, model: Any, inputs: tuple[str, ...], pad_token_id: int, generator: np.random.Generator
) -> dict[str, npt.NDArray[np.int64]]:
    size = (shape.batch, shape.sequence)
    mask = MASKS[shape.mask](size, generator)
    ids = generator.integers(0, model.config.vocab_size - 1, size)
    ids[ids >= pad_token_id] += 1  # every id but padding
    types = generator.integers(0, max(1, getattr(model.config, "type_vocab_size", 1) or 1), size)
    feeds = {
        "input_ids": np.where(mask, ids, pad_token_id),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": types,
    }
    return {name: feeds[name].astype(np.int64) for name in inputs}


def _no_mask(size: tuple[int, int], generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    return np.ones(size, dtype=np.bool_)


def _right_mask(size: tuple[int, int], generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    return np.arange(size[1]) < generator.integers(1, size[1] + 1, size[0])[:, None]


def _left_mask(size: tuple[int, int], generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    return _right_mask(size, generator)[:, ::-1]


def _hole_mask(size: tuple[int, int], generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    mask = generator.random(size) < 0.7
    mask[:, 0] = True  # a row that is padding alone has no answer to compare
    return mask


MASKS: dict[str, Callable[[tuple[int, int], np.random.Generator], npt.NDArray[np.bool_]]] = {
    "none": _no_mask,
    "right": _right_mask,
    "left": _left_mask,
    "holes": _hole_mask,
}
