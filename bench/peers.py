"""The ways to answer texts that the benchmarks compare, each used as its own documentation says.

A peer is one row of a table: how it is opened, and its settings in words. It is opened in a worker process (bench/worker.py), perhaps under an
interpreter of its own, so nothing but the standard library is imported before a peer is asked for.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

FP32, INT8 = "model.onnx", "model_quantized.onnx"  # the names Optimum gives its files
HAND_BATCH_TOKENS = 512  # as portabert's own batches, so that the graph and the code around it are what differs


class Job(NamedTuple):
    """What every peer is given. Plain strings and numbers, for it travels as JSON.

    Attributes:
        run: the Hugging Face folder of the checkpoint.
        bundle: the folder that portabert exported from it.
        work: a folder for files that peers make.
        threads: threads to compute with.
        max_length: tokens to cut a text to.
    """

    run: str
    bundle: str
    work: str
    threads: int
    max_length: int


class Model(NamedTuple):
    """An open peer: both functions go from text to label."""

    many: Callable[[list[str]], list[str]]
    one: Callable[[str], str]


class Peer(NamedTuple):
    """A row of a table.

    Attributes:
        open: gives the model.
        settings: what was chosen, in words.
        max_texts: measure on so many texts, evenly spread over the file, where all would take too long; None for all.
    """

    open: Callable[[Job], Model]
    settings: str
    max_texts: int | None = None


def _portabert(job: Job, *, variant: str) -> Model:
    import runtime

    classifier = runtime.load(job.bundle, variant=variant, engine="ort-cpu", threads=job.threads)
    return Model(
        lambda texts: [str(prediction.label) for prediction in classifier.predict(texts)],
        lambda text: str(classifier.predict(text).label),
    )


def _transformers(job: Job, *, dtype: str, batch_size: int, by_length: bool = False) -> Model:
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(job.threads)
    model = AutoModelForSequenceClassification.from_pretrained(job.run, dtype=getattr(torch, dtype)).eval()
    return _pipeline(model, job, batch_size=batch_size, by_length=by_length)


def _optimum(job: Job, *, file: str, batch_size: int, by_length: bool = False) -> Model:
    return _pipeline(_ort_model(job, file), job, batch_size=batch_size, by_length=by_length)


def _optimum_direct(job: Job, *, file: str) -> Model:
    from transformers import AutoTokenizer

    model, tokenizer = _ort_model(job, file), AutoTokenizer.from_pretrained(job.run)

    def one(text: str) -> str:
        encoded = tokenizer(text, return_tensors="np", truncation=True, max_length=job.max_length)
        return str(model.config.id2label[int(model(**encoded).logits[0].argmax())])

    return Model(lambda texts: [one(text) for text in texts], one)


def _by_hand(job: Job, *, file: str) -> Model:
    import onnxruntime
    import tokenizers

    folder = _optimum_files(job)
    session = onnxruntime.InferenceSession(
        str(folder / file), _session_options(job.threads), providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_inputs()]
    tokenizer = tokenizers.Tokenizer.from_file(str(Path(job.run) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(job.max_length)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    def answer(encodings: list[Any]) -> list[str]:
        labels = [""] * len(encodings)
        rows = [encoding.ids for encoding in encodings]
        for indices, feeds in _rectangles(rows, pad_token_id=config["pad_token_id"]):
            (logits,) = session.run(None, {name: feeds[name] for name in names})
            for index, best in zip(indices, logits.argmax(axis=-1), strict=True):
                labels[index] = config["id2label"][str(best)]
        return labels

    return Model(
        lambda texts: answer(tokenizer.encode_batch_fast(texts)), lambda text: answer([tokenizer.encode(text)])[0]
    )


def _rectangles(rows: list[list[int]], *, pad_token_id: int) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Batch rows of like length: which rows, and the arrays (B, S)."""
    import numpy as np

    order, start = sorted(range(len(rows)), key=lambda index: -len(rows[index])), 0
    while start < len(order):
        width = len(rows[order[start]])
        indices = order[start : start + max(1, HAND_BATCH_TOKENS // width)]
        start += len(indices)
        input_ids = np.full((len(indices), width), pad_token_id, dtype=np.int64)  # (B, S)
        mask = np.zeros_like(input_ids)
        for place, index in enumerate(indices):
            input_ids[place, : len(rows[index])] = rows[index]
            mask[place, : len(rows[index])] = 1
        yield indices, {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}


def _pipeline(model: Any, job: Job, *, batch_size: int, by_length: bool) -> Model:
    """Wrap a model as transformers documents; `by_length` sorts the texts first and puts the answers back in order, both timed."""
    from transformers import AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(job.run)
    pipe = pipeline(
        "text-classification",
        model=model,
        tokenizer=tokenizer,
        device="cpu",
        truncation=True,
        max_length=job.max_length,
    )

    def many(texts: list[str]) -> list[str]:
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index])) if by_length else range(len(texts))
        labels = [""] * len(texts)
        answers = pipe([texts[index] for index in order], batch_size=batch_size)
        for index, answer in zip(order, answers, strict=True):
            labels[index] = answer["label"]
        return labels

    return Model(many, lambda text: str(pipe(text)[0]["label"]))


def _ort_model(job: Job, file: str) -> Any:
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification

    torch.set_num_threads(job.threads)
    return ORTModelForSequenceClassification.from_pretrained(
        _optimum_files(job),
        file_name=file,
        provider="CPUExecutionProvider",
        session_options=_session_options(job.threads),
    )


def _session_options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return options


def _optimum_files(job: Job) -> Path:
    """Give the folder of Optimum's own export; the first peer that asks makes it, in a process that is gone before anything is timed."""
    folder = (
        Path(job.work) / f"optimum-{crc32(sys.prefix.encode()):08x}"
    )  # another interpreter may have another Optimum
    if not folder.is_dir():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(_export_with_optimum, job.run, str(folder)).result()
    return folder


def _export_with_optimum(run: str, folder: str) -> None:
    logging.disable(logging.WARNING)
    sys.stdout = sys.stderr
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    aside = Path(folder).with_suffix(".part")
    ORTModelForSequenceClassification.from_pretrained(run, export=True).save_pretrained(aside)
    ORTQuantizer.from_pretrained(aside, file_name=FP32).quantize(
        save_dir=aside, quantization_config=AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    )
    aside.rename(folder)


_PORTABERT = "runtime.load(bundle, variant={!r}, engine='ort-cpu').predict; defaults otherwise"
_TORCH = "transformers text-classification pipeline, PyTorch, {}; torch.set_num_threads"
_OPTIMUM = (
    "Optimum ORTModelForSequenceClassification in the transformers pipeline, {}; intra_op_num_threads, else defaults"
)
_FP32 = "fp32 as Optimum exports it"
_INT8 = "int8 by ORTQuantizer, AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)"
_SORTED = "texts sorted by length in characters"

THROUGHPUT: dict[str, Peer] = {
    "portabert fp32": Peer(partial(_portabert, variant="fp32"), _PORTABERT.format("fp32")),
    "portabert int8": Peer(partial(_portabert, variant="int8"), _PORTABERT.format("int8")),
    "portabert int8-channel": Peer(partial(_portabert, variant="int8-channel"), _PORTABERT.format("int8-channel")),
    "transformers fp32 batch 1": Peer(
        partial(_transformers, dtype="float32", batch_size=1), _TORCH.format("fp32, batch_size=1"), max_texts=400
    ),
    "transformers fp32 batch 32": Peer(
        partial(_transformers, dtype="float32", batch_size=32), _TORCH.format("fp32, batch_size=32"), max_texts=800
    ),
    "transformers fp32 sorted 32": Peer(
        partial(_transformers, dtype="float32", batch_size=32, by_length=True),
        _TORCH.format(f"fp32, batch_size=32, {_SORTED}"),
    ),
    "transformers bf16 sorted 32": Peer(
        partial(_transformers, dtype="bfloat16", batch_size=32, by_length=True),
        _TORCH.format(f"bf16 weights and activations, batch_size=32, {_SORTED}"),
    ),
    "optimum fp32 batch 1": Peer(
        partial(_optimum, file=FP32, batch_size=1), _OPTIMUM.format(f"{_FP32}, batch_size=1"), max_texts=400
    ),
    "optimum fp32 batch 32": Peer(
        partial(_optimum, file=FP32, batch_size=32), _OPTIMUM.format(f"{_FP32}, batch_size=32"), max_texts=800
    ),
    "optimum fp32 sorted 32": Peer(
        partial(_optimum, file=FP32, batch_size=32, by_length=True),
        _OPTIMUM.format(f"{_FP32}, batch_size=32, {_SORTED}"),
    ),
    "optimum int8 batch 1": Peer(
        partial(_optimum, file=INT8, batch_size=1), _OPTIMUM.format(f"{_INT8}, batch_size=1"), max_texts=400
    ),
    "optimum int8 batch 32": Peer(
        partial(_optimum, file=INT8, batch_size=32), _OPTIMUM.format(f"{_INT8}, batch_size=32")
    ),
    "optimum int8 sorted 32": Peer(
        partial(_optimum, file=INT8, batch_size=32, by_length=True),
        _OPTIMUM.format(f"{_INT8}, batch_size=32, {_SORTED}"),
    ),
    "onnxruntime int8 by hand": Peer(
        partial(_by_hand, file=INT8),
        f"onnxruntime, tokenizers and numpy, no pipeline; {_INT8}; texts sorted by tokens, {HAND_BATCH_TOKENS} padded tokens a batch; intra_op_num_threads, else defaults",
    ),
}

LATENCY: dict[str, Peer] = {
    "portabert fp32": THROUGHPUT["portabert fp32"],
    "portabert int8": THROUGHPUT["portabert int8"],
    "portabert int8-channel": THROUGHPUT["portabert int8-channel"],
    "transformers fp32": Peer(partial(_transformers, dtype="float32", batch_size=1), _TORCH.format("fp32")),
    "optimum fp32": Peer(partial(_optimum, file=FP32, batch_size=1), _OPTIMUM.format(_FP32)),
    "optimum int8": Peer(partial(_optimum, file=INT8, batch_size=1), _OPTIMUM.format(_INT8)),
    "optimum int8 without pipeline": Peer(
        partial(_optimum_direct, file=INT8),
        f"Optimum ORTModelForSequenceClassification called on its tokenizer's numpy arrays, {_INT8}; intra_op_num_threads, else defaults",
    ),
    "onnxruntime int8 by hand": THROUGHPUT["onnxruntime int8 by hand"],
}
