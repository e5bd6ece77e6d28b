"""Is the exported graph the trained model? What holds for every input, and is checked before any row is seen.

contract   any shape, any mask: ONNX fp32 logits against PyTorch's on the same random input
token ids  the golden texts, against transformers' own tokenizer
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.bundle import Golden
from runtime.engines.exactness import exact_options

from .errors import ParityError
from .parity import difference
from .reference import Reference


class Shape(NamedTuple):
    """One input of the contract."""

    batch: int
    sequence: int
    mask: str


def contract_shapes(max_length: int) -> list[Shape]:
    """List batch × sequence from 1×1 to the maximum, with right-, left- and hole-masked rows."""
    sequences = sorted({1, 2, 7, min(33, max_length), max_length})
    shapes = [Shape(1, sequence, "none") for sequence in sequences if sequence <= max_length]
    shapes += [Shape(3, sequence, mask) for sequence in sequences if 1 < sequence <= max_length for mask in MASKS]
    return shapes


def check_contract(file: Path, *, reference: Reference, max_length: int, limit: float) -> float:
    """Compare an ONNX graph with PyTorch on random input of every shape.

    Args:
        file: the fp32 graph.
        reference: the PyTorch model.
        max_length: the longest sequence.
        limit: see `difference`.

    Returns:
        The largest difference found.

    Raises:
        ParityError: a shape differs by more than the limit.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), exact_options(), providers=["CPUExecutionProvider"])
    generator, worst, failed = np.random.default_rng(0), 0.0, []
    for shape in contract_shapes(max_length):
        feeds = _random_input(shape, reference, generator)
        expected = reference.run(feeds)
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


def _random_input(
    shape: Shape, reference: Reference, generator: np.random.Generator
) -> dict[str, npt.NDArray[np.int64]]:
    size = (shape.batch, shape.sequence)
    mask = MASKS[shape.mask](size, generator)
    config = reference.model.config
    ids = generator.integers(0, config.vocab_size - 1, size)
    ids[ids >= reference.pad_token_id] += 1  # every id but padding
    types = generator.integers(0, max(1, getattr(config, "type_vocab_size", 1) or 1), size)
    feeds = {
        "input_ids": np.where(mask, ids, reference.pad_token_id),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": types,
    }
    return {name: feeds[name].astype(np.int64) for name in reference.inputs}


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
