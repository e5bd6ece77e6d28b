"""CTranslate2's encoder for BERT: it gives the pooled vector, and the classification head is numpy's."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bench.peers.by_hand import SORTED, Rows, by_hand
from bench.peers.peer import Job, Model, made

PACKAGES = ("ctranslate2", "tokenizers", "safetensors")
ENVIRONMENT = "ctranslate2"
SETTINGS = (
    f"ctranslate2.Encoder.forward_batch, TransformersConverter, {SORTED}; the head in numpy; compute_type={{!r}}, {{}}"
)
HEAD = "head.safetensors"


def open_encoder(job: Job, *, compute_type: str, in_lanes: bool) -> Model:
    """Open a converted model.

    Args:
        job: what every peer is given.
        compute_type: one of CTranslate2's; a CPU that cannot compute in it efficiently is refused.
        in_lanes: as many batches at once as threads (inter_threads), each on one; else a batch at a time on all (intra_threads).
    """
    import ctranslate2
    import numpy as np
    from safetensors.numpy import load_file

    folder = made(job, f"ctranslate2-{compute_type}", partial(write, quantization=compute_type))
    lanes, width = (job.threads, 1) if in_lanes else (1, job.threads)
    encoder = ctranslate2.Encoder(
        str(folder), device="cpu", compute_type=compute_type, inter_threads=lanes, intra_threads=width
    )
    head, pool = load_file(folder / HEAD), ThreadPoolExecutor(lanes)

    def compute(rows: Rows) -> Any:
        pooled = np.array(encoder.forward_batch(rows).pooler_output)  # (B, hidden)
        return pooled @ head["weight"].T + head["bias"]

    return by_hand(
        job,
        lambda batches: list(pool.map(compute, batches)),
        files=sorted(folder.iterdir()),
        description=f"CTranslate2 computes in {encoder.compute_type}",
    )


def write(run: str, folder: str, *, quantization: str) -> None:
    """Convert as CTranslate2's documentation says, and keep the head, which it does not convert."""
    from ctranslate2.converters import TransformersConverter
    from safetensors.numpy import save_file
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(run)
    if model.config.model_type != "bert":
        raise ValueError(
            f"written for BERT's pooler and head, which CTranslate2 converts so. Got {model.config.model_type!r} instead."
        )
    TransformersConverter(run).convert(folder, quantization=quantization, force=True)
    save_file(
        {name: tensor.detach().numpy() for name, tensor in model.classifier.named_parameters()}, Path(folder) / HEAD
    )
