"""Optimum's ONNX Runtime models, exported and quantised by Optimum itself."""

from functools import partial
from pathlib import Path
from typing import Any

from bench.peers.onnxruntime_by_hand import session_options
from bench.peers.peer import Job, Model, made
from bench.peers.pytorch import pipeline_model

PACKAGES = ("torch", "transformers", "optimum-onnx", "onnxruntime")
FILES = {"fp32": "model.onnx", "int8": "model_quantized.onnx"}  # the names Optimum gives them
SETTINGS = (
    "Optimum ORTModelForSequenceClassification in the transformers pipeline, {}; intra_op_num_threads, else defaults"
)
WORDS = {
    "fp32": "fp32 as Optimum exports it",
    "int8": "int8 by ORTQuantizer, AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)",
}
DIRECT = f"Optimum ORTModelForSequenceClassification called on its tokenizer's numpy arrays, {WORDS['int8']}; intra_op_num_threads, else defaults"


def open_optimum(job: Job, *, precision: str, batch_size: int, by_length: bool = False) -> Model:
    """Open Optimum's model in transformers' pipeline."""
    model = _model(job, precision)
    return pipeline_model(
        model, job, batch_size=batch_size, by_length=by_length, files=tuple(optimum_files(job, precision))
    )


def open_direct(job: Job, *, precision: str) -> Model:
    """Open Optimum's model, called without a pipeline, a text at a time."""
    from transformers import AutoTokenizer

    model, tokenizer = _model(job, precision), AutoTokenizer.from_pretrained(job.run)

    def one(text: str) -> str:
        encoded = tokenizer(text, return_tensors="np", truncation=True, max_length=job.max_length)
        return str(model.config.id2label[int(model(**encoded).logits[0].argmax())])

    return Model(lambda texts: [one(text) for text in texts], one, files=tuple(optimum_files(job, precision)))


def optimum_files(job: Job, precision: str) -> list[Path]:
    """Give Optimum's ONNX file, made where it is not there yet, and its config.json."""
    folder = made(job, "optimum", partial(write, quantize=True))
    return [folder / FILES[precision], folder / "config.json"]


def write(run: str, folder: str, *, quantize: bool) -> None:
    """Export as Optimum's documentation says, with its int8 file beside it where asked."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    ORTModelForSequenceClassification.from_pretrained(run, export=True).save_pretrained(folder)
    if quantize:
        ORTQuantizer.from_pretrained(folder, file_name=FILES["fp32"]).quantize(
            save_dir=folder, quantization_config=AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
        )


def _model(job: Job, precision: str) -> Any:
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification

    torch.set_num_threads(job.threads)
    file, _ = optimum_files(job, precision)
    return ORTModelForSequenceClassification.from_pretrained(
        file.parent,
        file_name=file.name,
        provider="CPUExecutionProvider",
        session_options=session_options(job.threads),
    )
