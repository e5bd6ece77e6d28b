"""How the length of a text is measured: by a model's tokenizer, or in words where none is named."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.errors import InputError
from runtime.records import Record

MAX_LENGTH = 512  # tokens; what the trainer takes where --max-length is not set, and most encoders' limit
UNCUT = 1_000_000  # tokens; to see how long a text is it must not be cut


class Ruler(NamedTuple):
    """How lengths are measured.

    Attributes:
        unit: "words", or "tokens" and of which model.
        counts_tokens: whether it is a model's tokenizer.
        max_length: tokens that a model takes.
        measure: records → (N,) lengths.
    """

    unit: str
    counts_tokens: bool
    max_length: int
    measure: Callable[[Sequence[Record]], npt.NDArray[np.int64]]


def ruler_of(model: str | None, *, max_length: int | None, pair: bool) -> Ruler:
    """Measure by a model's tokenizer, where one is named, else in words.

    Raises:
        InputError: the model's tokenizer is not on this machine, or has no tokenizer.json.
    """
    if model is None:
        return WORDS._replace(max_length=max_length or MAX_LENGTH)
    from transformers import AutoConfig, AutoTokenizer

    from ..model import find_model, open_encoder

    where = find_model(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, use_fast=True, local_files_only=True)
        takes = int(
            getattr(AutoConfig.from_pretrained(where, local_files_only=True), "max_position_embeddings", MAX_LENGTH)
        )
    except Exception as exc:  # missing files and broken JSON raise unrelated classes
        raise InputError(
            f"--model {model}: its tokenizer is not on this machine. Name a folder, or leave --model out to count words."
        ) from exc
    encoder = open_encoder(tokenizer, max_length=UNCUT, pair=pair)

    def measure(records: Sequence[Record]) -> npt.NDArray[np.int64]:
        return encoder.encode([record.model_input for record in records]).batch.lengths.astype(np.int64)

    return Ruler(f"tokens of {model}", True, max_length or min(takes, MAX_LENGTH), measure)


def _words(records: Sequence[Record]) -> npt.NDArray[np.int64]:
    return np.array(
        [len(record.text.split()) + len((record.text_pair or "").split()) for record in records], dtype=np.int64
    )


WORDS = Ruler("words", False, MAX_LENGTH, _words)
