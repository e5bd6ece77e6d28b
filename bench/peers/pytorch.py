"""transformers on PyTorch, and its pipeline, in which Optimum's models are used too."""

from pathlib import Path
from typing import Any

from bench.peers.peer import Job, Model

PACKAGES = ("torch", "transformers")
SORTED = "texts sorted by length in characters"
SETTINGS = "transformers text-classification pipeline, PyTorch, {}; torch.set_num_threads"
BF16 = "bf16 weights and activations"
INT8 = "int8 by torch.ao.quantization.quantize_dynamic on nn.Linear, qengine x86 (weights and activations a scale a tensor)"
COMPILED = "fp32, torch.compile(dynamic=True)"


def open_pytorch(job: Job, *, dtype: str, batch_size: int, by_length: bool = False) -> Model:
    """Open the checkpoint as it is, in a precision of torch's."""
    return pipeline_model(_model(job, dtype), job, batch_size=batch_size, by_length=by_length, files=_files(job))


def open_int8(job: Job, *, batch_size: int, by_length: bool = False) -> Model:
    """Open the checkpoint with its linear layers in dynamic int8."""
    import torch

    torch.backends.quantized.engine = "x86"
    quantize: Any = torch.ao.quantization.quantize_dynamic  # torch gives it no types
    model = quantize(_model(job, "float32"), {torch.nn.Linear}, dtype=torch.qint8)
    return pipeline_model(model, job, batch_size=batch_size, by_length=by_length, files=_files(job))


def open_compiled(job: Job, *, batch_size: int, by_length: bool = False) -> Model:
    """Open the checkpoint compiled; the first texts compile it, which takes a minute."""
    import torch
    import torch._inductor.config

    torch._inductor.config.compile_threads = 1  # in this process: idle compilers beside it would disturb other peers
    model = _model(job, "float32")
    model.forward = torch.compile(model.forward, dynamic=True)
    return pipeline_model(model, job, batch_size=batch_size, by_length=by_length, files=_files(job))


def pipeline_model(model: Any, job: Job, *, batch_size: int, by_length: bool, files: tuple[Path, ...]) -> Model:
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

    return Model(many, lambda text: str(pipe(text)[0]["label"]), files=files)


def _model(job: Job, dtype: str) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(job.threads)
    return AutoModelForSequenceClassification.from_pretrained(job.run, dtype=getattr(torch, dtype)).eval()


def _files(job: Job) -> tuple[Path, ...]:
    return Path(job.run) / "model.safetensors", Path(job.run) / "config.json"
