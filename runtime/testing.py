"""For tests of programs that embed the runtime: a bundle and an engine without a trained model, onnx or torch.

import runtime
from runtime.testing import FakeEngine, tiny_bundle
classifier = runtime.load(tiny_bundle(tmp_path), engine=FakeEngine(num_labels=2))
"""

import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from .bundle import Golden, Manifest, Variant, stored_files, write_manifest
from .encode import Batch, Encoder
from .errors import InputError
from .tasks import TASKS

MAX_LENGTH = 32
LABELS: dict[str, tuple[str, ...]] = {
    "single-label": ("no", "yes"),
    "multi-label": ("delivery", "money", "praise"),
    "regression": ("urgency",),
    "token": ("O", "B-NAME", "I-NAME"),
}
_MODEL_FILE = "onnx/model.onnx"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = ("my", "the", "parcel", "never", "came", "late", "thanks", "cancel", "it", "in", "rome", "##ing")


@dataclass(frozen=True, kw_only=True)
class FakeEngine:
    """An engine whose answers follow a rule instead of a model, the same on every machine and in every batch.

    Token id v says ((v · (c + 1)) mod 31) / 5 − 3 for label c, a number from −3 to 3, and in the second text of a pair what v + 10 would say. A text's
    logits are the mean over its tokens, special ones included.

    Attributes:
        num_labels: C, as many as the bundle has labels.
        per_token: whether the bundle's task labels tokens.
    """

    num_labels: int
    per_token: bool = False

    @property
    def description(self) -> str:
        """What runs where, for people."""
        return "a fake engine for tests"

    @property
    def num_lanes(self) -> int:
        """How many batches it computes at once."""
        return 1

    @property
    def batch_invariant(self) -> bool:
        """Whether a text's logits are the same to the bit alone and in any batch."""
        return True

    def run(self, batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        """Compute logits: for each batch (B, C), or (T, C) where tokens are labelled."""
        return [self._run(batch) for batch in batches]

    def _run(self, batch: Batch) -> npt.NDArray[np.float32]:
        factors = np.arange(1, self.num_labels + 1)
        said = batch.input_ids + 10 * batch.token_type_ids
        votes = (said[:, None] * factors % 31) / 5 - 3  # (T, C)
        if not self.per_token:
            votes = np.add.reduceat(votes, batch.cu_seqlens[:-1]) / batch.lengths[:, None]  # (T, C) -> (B, C)
        return votes.astype(np.float32)


def tiny_bundle(
    folder: Path, *, task: str = "single-label", labels: tuple[str, ...] | None = None, pair: bool = False
) -> Path:
    """Write a valid bundle with a small lower-casing WordPiece vocabulary that spells any ASCII word, and no model.

    Args:
        folder: where; made if it is not there, else it must be empty.
        task: a key of `runtime.TASKS`.
        labels: the label of each logit. None: those of LABELS.
        pair: whether texts are pairs.

    Returns:
        The folder, for `runtime.load(folder, engine=FakeEngine(...))`.

    Raises:
        InputError: the folder is not empty, or there is no such task.
        BundleError: the labels do not fit the task.
    """
    if task not in TASKS:
        raise InputError(f"task must be one of {', '.join(TASKS)}. Got {task!r} instead.")
    labels = LABELS[task] if labels is None else labels
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"{folder} is not empty. Choose another folder.")
    _write_tokenizer(folder)
    _write_json(folder / "config.json", {"model_type": "bert", "id2label": dict(enumerate(labels))})
    (folder / _MODEL_FILE).parent.mkdir()
    (folder / _MODEL_FILE).write_text("no model: give load an engine of your own\n", encoding="utf-8")
    manifest = Manifest(
        format=1,  # the lowest can express it
        task=task,
        labels=labels,
        pair=pair,
        max_length=MAX_LENGTH,
        pad_token_id=0,
        thresholds=(0.5,) * len(labels) if TASKS[task].thresholds else None,
        temperature=1.0,
        variants={"fp32": _variant()},
        files=stored_files(folder),
        made_by={"portabert": "runtime.testing"},
        golden=_golden(folder, task, num_labels=len(labels), pair=pair),
    )
    write_manifest(folder, manifest)
    return folder


def _write_tokenizer(folder: Path) -> None:
    signs = string.ascii_lowercase + string.digits
    tokens = (*_SPECIAL, *signs, *string.punctuation, *(f"##{sign}" for sign in signs), *_WORDS)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer: Any = tokenizers.Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", {"unk_token": "[UNK]", "tokenizer_class": "PreTrainedTokenizerFast"})


def _golden(folder: Path, task: str, *, num_labels: int, pair: bool) -> Golden:
    text = ("My parcel never came", "Cancel it") if pair else "My parcel never came"
    batch = Encoder(folder, max_length=MAX_LENGTH, pair=pair).encode([text]).batch
    logits = FakeEngine(num_labels=num_labels, per_token=TASKS[task].per_token).run([batch])[0]
    row = tuple(map(tuple, logits.tolist())) if TASKS[task].per_token else tuple(logits[0].tolist())
    return Golden(texts=(text,), input_ids=(tuple(batch.input_ids.tolist()),), logits=(row,))


def _variant() -> Variant:
    return Variant(
        file=_MODEL_FILE,
        precision="fp32",
        inputs=_INPUTS,
        session_options={},
        disabled_optimizers=(),
        batch_invariant=True,
        max_error=0.0,
        passed=True,
    )


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values) + "\n", encoding="utf-8")
