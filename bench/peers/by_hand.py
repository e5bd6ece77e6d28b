"""Without a pipeline: tokenizers, batches of texts of like length, and an engine that turns batches into logits."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.peers.peer import Job, Model

BATCH_TOKENS = 512  # as portabert's own batches, so that the graph and the engine are what differs
SORTED = f"tokenizers and numpy, no pipeline; texts sorted by tokens, {BATCH_TOKENS} padded tokens a batch"

Rows = list[list[int]]  # token ids of a batch's texts, not padded


def by_hand(
    job: Job, compute: Callable[[list[Rows]], Sequence[Any]], *, files: Sequence[Path], description: str = ""
) -> Model:
    """Wrap an engine.

    Args:
        job: what every peer is given.
        compute: all batches of a call to their logits, each (B, C).
        files: what the engine read.
        description: see `Model`.
    """
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(Path(job.run) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(job.max_length)
    names = config_of(job)["id2label"]

    def answer(encodings: list[Any]) -> list[str]:
        rows = [encoding.ids for encoding in encodings]
        batches = batches_of_like_length([len(row) for row in rows])
        labels = [""] * len(rows)
        computed = compute([[rows[index] for index in batch] for batch in batches])
        for batch, logits in zip(batches, computed, strict=True):
            for index, best in zip(batch, logits.argmax(axis=-1), strict=True):
                labels[index] = names[str(best)]
        return labels

    return Model(
        lambda texts: answer(tokenizer.encode_batch_fast(texts)),
        lambda text: answer([tokenizer.encode(text)])[0],
        files=tuple(files),
        description=description,
    )


def batches_of_like_length(lengths: list[int]) -> list[list[int]]:
    """Group places by length, longest first, at most BATCH_TOKENS padded tokens together."""
    order, batches, start = sorted(range(len(lengths)), key=lambda index: -lengths[index]), [], 0
    while start < len(order):
        size = max(1, BATCH_TOKENS // lengths[order[start]])
        batches.append(order[start : start + size])
        start += size
    return batches


def rectangle(rows: Rows, *, names: Sequence[str], pad_token_id: int) -> dict[str, Any]:
    """Pad rows on the right: arrays (B, S) by input name."""
    import numpy as np

    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]  # (B, S)
    input_ids = np.full(mask.shape, pad_token_id, dtype=np.int64)
    input_ids[mask] = np.concatenate(rows)
    feeds = {
        "input_ids": input_ids,
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.zeros_like(input_ids),
    }
    return {name: feeds[name] for name in names}


def config_of(job: Job) -> dict[str, Any]:
    """Read the checkpoint's config.json."""
    config: dict[str, Any] = json.loads((Path(job.run) / "config.json").read_text(encoding="utf-8"))
    config.setdefault("id2label", {"0": "LABEL_0", "1": "LABEL_1"})  # transformers leaves its defaults out
    return config
