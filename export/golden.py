"""The fixed texts whose answers travel in a bundle, so that a copy can be checked on any machine. Nobody's data: they were written for this."""

from itertools import pairwise
from typing import Any

import numpy as np

from runtime.bundle import Golden
from runtime.encode import Encoder
from trainer.checkpoint import Checkpoint

from .reference import Floats, Reference

TEXTS = (
    "ok",
    "The kettle arrived on Tuesday, but its lid is missing.",
    "Ünïcödé, 東京, naïve café and an emoji 🙂 in one line",
    "Error 0x80A3 again!!! third time since 12 March...",
    "Please cancel my plan; I moved to Porto and have no use for it any more.",
    "tabs\tand  double  spaces\nand a second line",
    "A very long word: Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen, and then some more words so that the text is of middle length.",
)
LONG = "This sentence is repeated until no model can read its end. " * 20


def make_golden(checkpoint: Checkpoint, *, reference: Reference, encoder: Encoder) -> tuple[Golden, list[Floats]]:
    """Answer the fixed texts with PyTorch, one at a time.

    Returns:
        What the manifest stores, and the logits as arrays.
    """
    singles = (*TEXTS, LONG.strip())
    texts = tuple(zip(singles, reversed(singles), strict=True)) if checkpoint.pair else singles
    encoded = encoder.encode(texts)
    logits = [reference.logits_together(encoded, np.array([index]))[0] for index in range(len(texts))]
    bounds = encoded.batch.cu_seqlens
    input_ids = tuple(tuple(encoded.batch.input_ids[a:b].tolist()) for a, b in pairwise(bounds))
    return Golden(texts=texts, input_ids=input_ids, logits=tuple(_as_tuple(row.tolist()) for row in logits)), logits


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
