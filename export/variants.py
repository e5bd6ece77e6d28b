"""The graph files of a bundle: how each variant comes about, and where it lies.

    written     an encoder that encoder_weights.py knows: fp32 and int8 are written from its weights (encoder_graph.py), nothing is traced
    otherwise   the graph is traced (trace.py) and cleaned up (passes.py): fp32; int8 is rewritten from it (quantize.py)

int8-channel is always onnxruntime's own quantisation of fp32.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from runtime.tasks import TASKS
from trainer.checkpoint import Checkpoint

from .encoder_graph import EXACT, ROW_WISE, write_graph
from .encoder_weights import EncoderWeights, read_weights
from .errors import TraceError
from .passes import optimise
from .quantize import quantize_per_channel, quantize_row_wise
from .trace import trace

FILES = {"fp32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx", "int8-channel": "onnx/model_int8_channel.onnx"}
QUANTIZERS: dict[str, Callable[[Path, Path], None]] = {"int8": quantize_row_wise, "int8-channel": quantize_per_channel}


class Drawn(NamedTuple):
    """A model's graph in fp32.

    Attributes:
        exporter: "written", "torch" or "optimum".
        passes: nodes of the trace and after each clean-up pass; of a written graph, its nodes.
        weights: of a written graph, for its other forms.
    """

    exporter: str
    passes: dict[str, int]
    weights: EncoderWeights | None

    @property
    def summary(self) -> str:
        """One line for people."""
        counts = list(self.passes.values())
        return (
            f"graph written: {counts[0]} nodes"
            if self.weights
            else f"traced with {self.exporter}: {counts[0]} nodes, {counts[-1]} after clean-up"
        )


def draw(checkpoint: Checkpoint, *, model: Any, inputs: tuple[str, ...], exporter: str, folder: Path) -> Drawn:
    """Make the fp32 graph.

    Args:
        checkpoint: where the model came from.
        model: the PyTorch model, in evaluation mode.
        inputs: names of its inputs.
        exporter: "written", "torch", "optimum", or "auto": the first of them that can.
        folder: the bundle's.

    Raises:
        TraceError: the model cannot be drawn so.
        InputError: Optimum was asked for and is not installed.
    """
    file = folder / FILES["fp32"]
    file.parent.mkdir()
    if exporter in ("auto", "written"):
        per_token = TASKS[checkpoint.config.task].per_token
        weights = read_weights(model, per_token=per_token, max_length=checkpoint.max_length)
        if isinstance(weights, EncoderWeights):
            graph = write_graph(weights, inputs=inputs, arithmetic=EXACT)
            onnx.save(graph, file)
            return Drawn("written", {"written": len(graph.graph.node)}, weights)
        if exporter == "written":
            raise TraceError(f"--exporter written, but {weights}. Leave the flag out, and the model is traced.")
    used = trace(checkpoint, model=model, inputs=inputs, exporter=exporter, file=file)
    return Drawn(used, optimise(file), None)


def write_variants(drawn: Drawn, variants: tuple[str, ...], *, inputs: tuple[str, ...], folder: Path) -> None:
    """Write the other variants beside the fp32 graph, which is removed where it was not asked for."""
    fp32 = folder / FILES["fp32"]
    for name in variants:
        if name == "int8" and drawn.weights is not None:
            onnx.save(write_graph(drawn.weights, inputs=inputs, arithmetic=ROW_WISE), folder / FILES[name])
        elif name in QUANTIZERS:
            QUANTIZERS[name](fp32, folder / FILES[name])
    if "fp32" not in variants:
        fp32.unlink()
