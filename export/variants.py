"""The graph files of a bundle: how each variant comes about, and where it lies.

    written     an encoder that encoder_weights.py knows: fp32 and int8 are written from its weights (encoder_graph.py), nothing is traced
    otherwise   the graph is traced (trace.py) and cleaned up (passes.py): fp32; int8 is rewritten from it (quantize.py)

int8-channel is always onnxruntime's own quantisation of fp32, fp16 a conversion of it (half.py); bf16 is the fp32 file, computed in bf16 by engines that can.
native-int8 has int8's weights, native-bf16 the exact ones in bf16, both packed for portabert-native (native_weights.py).
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx

from runtime.encode import Encoded
from runtime.tasks import TASKS
from trainer.checkpoint import Checkpoint

from .calibrate import observe, round_columns
from .encoder_graph import EXACT, row_wise, stored_int8, write_graph
from .encoder_products import encoder_products
from .encoder_weights import EncoderWeights, read_weights
from .errors import TraceError
from .graph import Floats, save
from .native_weights import write_native
from .passes import optimise
from .products import products
from .quantize import quantize_per_channel, quantize_row_wise, quantized_weights, store_int8
from .reference import Reference
from .row_wise import Scheme, Stored
from .saturation import Saturation, emulate
from .smooth import smooth
from .trace import trace

FILES = {
    "fp32": "onnx/model.onnx",
    "int8": "onnx/model_quantized.onnx",
    "int8-channel": "onnx/model_int8_channel.onnx",
    "int8-weights": "onnx/model_int8_weights.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "bf16": "onnx/model.onnx",
    "native-int8": "native/int8.safetensors",
    "native-bf16": "native/bf16.safetensors",
}
PRECISIONS = {"int8-channel": "int8"}  # of all others the precision is their name
ENGINES = {
    "bf16": "openvino",
    "int8-weights": "openvino",
    "native-int8": "native",
    "native-bf16": "native",
}  # what verifies a variant that onnxruntime on a CPU does not compute
QUANTIZERS: dict[str, Callable[[Path, Path, Scheme], None]] = {
    "int8": quantize_row_wise,
    "int8-channel": quantize_per_channel,
    "int8-weights": store_int8,
}
WRITERS = {"int8": row_wise, "int8-weights": stored_int8}  # of encoders whose weights are known by their roles
NATIVE = {"native-int8": "int8", "native-bf16": "bf16"}  # of them alone, too: the form of their weights
INT8_VARIANTS = (*QUANTIZERS, "native-int8")
IN_INT8 = ("int8", "native-int8")  # the row-wise arithmetic of them all, which --quant-aware trains in
USUAL, USUAL_NATIVE = ("fp32", "int8"), ("native-int8",)  # the latter where it can be verified


class Drawn(NamedTuple):
    """A model's graph in fp32.

    Attributes:
        exporter: "written", "torch" or "optimum".
        passes: nodes of the trace and after each clean-up pass; of a written graph, its nodes.
    """

    exporter: str
    passes: dict[str, int]

    @property
    def summary(self) -> str:
        """One line for people."""
        counts = list(self.passes.values())
        return (
            f"graph written: {counts[0]} nodes"
            if self.exporter == "written"
            else f"traced with {self.exporter}: {counts[0]} nodes, {counts[-1]} after clean-up"
        )


def draw(checkpoint: Checkpoint, *, reference: Reference, exporter: str, folder: Path) -> Drawn:
    """Make the fp32 graph.

    Args:
        checkpoint: where the model came from.
        reference: its PyTorch model.
        exporter: "written", "torch", "optimum", or "auto": the first of them that can.
        folder: the bundle's.

    Raises:
        TraceError: the model cannot be drawn so.
        InputError: Optimum was asked for and is not installed.
    """
    file = folder / FILES["fp32"]
    file.parent.mkdir(exist_ok=True)
    if exporter in ("auto", "written"):
        weights = weights_of(checkpoint, reference)
        if isinstance(weights, EncoderWeights):
            graph = write_graph(weights, inputs=reference.inputs, arithmetic=EXACT)
            save(graph, file)
            return Drawn("written", {"written": len(graph.graph.node)})
        if exporter == "written":
            raise TraceError(f"--exporter written, but {weights}. Leave the flag out, and the model is traced.")
    used = trace(checkpoint, reference=reference, exporter=exporter, file=file)
    return Drawn(used, optimise(file))


def weights_of(checkpoint: Checkpoint, reference: Reference) -> EncoderWeights | str:
    """Read a model's weights by their roles, or say why it has none such."""
    per_token = TASKS[checkpoint.config.task].per_token
    return read_weights(reference.model, per_token=per_token, max_length=checkpoint.max_length)


class Quantizer(NamedTuple):
    """Writes the int8 variants of one model.

    Attributes:
        fp32: the exact graph.
        weights: of a written encoder, smoothed where its activations were observed; None for a traced one.
        stored: weights that were rounded with care.
        samples: some rows of each product's input as observed, after smoothing.
        inputs: names of the graph's inputs.
        max_length: tokens of the longest text.
    """

    fp32: Path
    weights: EncoderWeights | None
    stored: dict[str, Stored]
    samples: dict[str, Floats]
    inputs: tuple[str, ...]
    max_length: int

    def saturations(self) -> dict[str, Saturation]:
        """Emulate a CPU without VNNI on every product whose input was observed."""
        activation = self.weights.activation if self.weights else None
        return {
            name: emulate(self.samples[name], stored, activation=activation if name.endswith("_down") else None)
            for name, stored in self.stored.items()
        }

    def write(self, variant: str, target: Path, exact: frozenset[str]) -> dict[str, int]:
        """Write a variant with these weights in fp32; give the names and bytes of those in int8."""
        scheme = Scheme(exact, {} if variant == "int8-channel" else self.stored)
        if variant in NATIVE and self.weights is not None:
            return write_native(target, self.weights, scheme=scheme, inputs=self.inputs, max_length=self.max_length)
        if variant in WRITERS and self.weights is not None:
            save(write_graph(self.weights, inputs=self.inputs, arithmetic=WRITERS[variant](scheme)), target)
        else:
            QUANTIZERS[variant](self.fp32, target, scheme)
        return quantized_weights(target)


def prepare_int8(
    fp32: Path,
    read: Callable[[], EncoderWeights | None],
    *,
    texts: Encoded | None,
    inputs: tuple[str, ...],
    pad_token_id: int,
    max_length: int,
) -> Quantizer:
    """Observe the model on texts, smooth its activations and round its weights by them; without texts weights are rounded to nearest, as --quant-aware does.

    Args:
        fp32: its exact graph.
        read: reads the weights of an encoder that is written; None of one that was traced. Called when the model has been observed: of a large one they are gigabytes.
        texts: real ones; their labels are not needed.
        inputs: names of the graph's inputs.
        pad_token_id: of the model.
        max_length: tokens of the longest text.
    """
    if texts is None:
        return Quantizer(fp32, read(), {}, {}, inputs, max_length)
    moments = observe(fp32, texts, inputs=inputs, pad_token_id=pad_token_id)
    weights = read()
    if weights is not None:
        weights, moments = smooth(weights, moments)
    stored: dict[str, Stored] = {}
    samples: dict[str, Floats] = {}

    def visit(name: str, weight: Floats) -> None:
        if name not in stored:  # nodes may share a weight
            found = moments.pop(name)  # of a large model they take as much memory as its weights
            stored[name], samples[name] = round_columns(weight, found), found.sample

    if weights is not None:
        for name, linear in encoder_products(weights):
            visit(name, linear.weight)
    else:
        for node, weight in products(onnx.load(fp32).graph):
            visit(node.input[1], weight)
    return Quantizer(fp32, weights, stored, samples, inputs, max_length)
