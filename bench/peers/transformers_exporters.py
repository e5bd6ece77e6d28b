"""transformers 5's own exporter: `OnnxExporter` writes, `ExportedModel` answers on onnxruntime."""

from functools import partial
from typing import Any

from bench.peers.by_hand import SORTED, Rows, by_hand, config_of, rectangle
from bench.peers.onnxruntime_by_hand import session_options
from bench.peers.peer import Job, Model, made

PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
ENVIRONMENT = "transformers-5"
SETTINGS = f"transformers 5 OnnxExporter, OnnxConfig(dynamic=True, ort_fusions='cpu'{{}}); ExportedModel.from_pretrained on {SORTED}; intra_op_num_threads, else defaults"
WORDS = {"fp32": "", "int8": ", quantizer=OnnxRuntimeQuantizer(OnnxRuntimeDynamicConfig(per_channel=True))"}


def open_exported(job: Job, *, precision: str) -> Model:
    """Open what transformers exported."""
    import torch
    from transformers.exporters import ExportedModel

    torch.set_num_threads(job.threads)
    folder = made(job, f"transformers-5-{precision}", partial(write, precision=precision))
    model = ExportedModel.from_pretrained(folder, device="cpu", session_options=session_options(job.threads))
    names = ("input_ids", "attention_mask", "token_type_ids")  # what it was not traced with, it drops
    pad_token_id = config_of(job)["pad_token_id"]

    def compute(rows: Rows) -> Any:
        feeds = rectangle(rows, names=names, pad_token_id=pad_token_id)
        return model(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits.numpy()

    return by_hand(job, lambda batches: [compute(rows) for rows in batches], files=sorted(folder.iterdir()))


def write(run: str, folder: str, *, precision: str) -> None:
    """Export as transformers' documentation says, two texts of different lengths as the sample."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.exporters import OnnxConfig, OnnxExporter, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    model = AutoModelForSequenceClassification.from_pretrained(run).eval()
    sample = AutoTokenizer.from_pretrained(run)(["a text", "a text that is longer"], padding=True, return_tensors="pt")
    quantizer = OnnxRuntimeQuantizer(OnnxRuntimeDynamicConfig(per_channel=True)) if precision == "int8" else None
    config = OnnxConfig(dynamic=True, ort_fusions="cpu", quantizer=quantizer)
    OnnxExporter().export(model, dict(sample), config).save_pretrained(folder)
