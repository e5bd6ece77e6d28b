"""PyTorch to ONNX. The one file that knows an exporter.

The TorchScript exporter with eager attention gives the plainest graph: onnxruntime fuses all of its attention, which it does for no graph of the dynamo
exporter or of SDPA attention (docs/LOG.md). It is deprecated in torch, which is why nothing else may depend on it.
"""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from runtime.errors import InputError
from trainer.checkpoint import Checkpoint

from .errors import TraceError
from .graph import OPSET
from .reference import Reference


def trace(checkpoint: Checkpoint, *, reference: Reference, exporter: str, file: Path) -> str:
    """Write a model's graph with named axes `batch` and `sequence`, inputs and output named as Optimum names them.

    Args:
        checkpoint: where the model came from.
        reference: its PyTorch model.
        exporter: "torch", "optimum", or "auto": torch, and Optimum where torch fails.
        file: where the graph is written.

    Returns:
        The exporter that was used.

    Raises:
        TraceError: the model cannot be traced.
        InputError: Optimum was asked for and is not installed.
    """
    if exporter in ("torch", "auto"):
        try:
            _trace_with_torch(reference, file)
            return "torch"
        except Exception as exc:  # tracing fails in as many ways as there are models
            if exporter == "torch" or not _has_optimum():
                reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
                raise TraceError(
                    f"torch cannot trace {type(reference.model).__name__}: {reason}. Try --exporter optimum (pip install 'portabert[optimum]')."
                ) from exc
    _trace_with_optimum(checkpoint, reference.inputs, file)
    return "optimum"


def _trace_with_torch(reference: Reference, file: Path) -> None:
    model, inputs = reference.model, reference.inputs
    wrapped = _Logits(model, inputs).eval()
    example = tuple(torch.ones(2, 9, dtype=torch.int64) for _ in inputs)
    for position, name in enumerate(inputs):
        if name == "token_type_ids":
            example[position].zero_()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter(
            "ignore"
        )  # the tracer warns of every shape it reads; shapes are verified afterwards instead
        torch.onnx.export(
            wrapped,
            example,
            str(file),
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in (*inputs, "logits")}
            if model.__class__.__name__.endswith("TokenClassification")
            else {**{name: {0: "batch", 1: "sequence"} for name in inputs}, "logits": {0: "batch"}},
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
    model.eval()  # torch.onnx.export puts it back into training mode, whose dropout would fake a difference of 1e-2


def _trace_with_optimum(checkpoint: Checkpoint, inputs: tuple[str, ...], file: Path) -> None:
    if not _has_optimum():
        raise InputError("--exporter optimum needs Optimum: pip install 'portabert[optimum]'")
    from optimum.exporters.onnx import main_export

    task = (
        "token-classification"
        if checkpoint.objective.auto_model.endswith("TokenClassification")
        else "text-classification"
    )
    with tempfile.TemporaryDirectory(dir=file.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            main_export(str(checkpoint.folder), output=folder, task=task, do_validation=False, opset=OPSET)
        except Exception as exc:  # as above
            reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            raise TraceError(f"Optimum cannot export {checkpoint.folder}: {reason}") from exc
        shutil.move(Path(folder) / "model.onnx", file)
    _check_inputs(file, inputs)


def _check_inputs(file: Path, inputs: tuple[str, ...]) -> None:
    found = sorted(node.name for node in onnx.load(file, load_external_data=False).graph.input)
    if found != sorted(inputs):
        raise TraceError(f"the graph has the inputs {found}, the model takes {sorted(inputs)}")


class _Logits(torch.nn.Module):
    """A model that takes its inputs in order and gives logits alone."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Compute (B, C) or (B, S, C) logits."""
        logits: torch.Tensor = self.model(**dict(zip(self.names, tensors, strict=True))).logits
        return logits


def _has_optimum() -> bool:
    try:
        import optimum.exporters.onnx  # noqa: F401  # only whether it can be imported
    except ImportError:
        return False
    return True
