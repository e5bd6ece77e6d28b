"""fp32 graph to int8 graph.

    int8           row-wise: every token has its own activation scale. The default: closer to fp32, and a text's answer does not depend on the other
                   rows of its batch.

        x (B, S, K) ─Reshape─► (T, K) ─ max|row| / 127 ─► scale (T, 1)
                                 └─ QuantizeLinear(axis 0) ─► uint8, zero point 128 ─ MatMulInteger(W int8) ─► int32
                                                        ─ Cast ─ × scale ─ × column scale (N,) ─ Reshape ─► (B, S, N)

    int8-channel   onnxruntime's dynamic quantisation: one activation scale a batch, which every row of it shares.

Weights are int8 with one scale an output channel, activations uint8 (U8S8: the pairing that VNNI and AMX multiply), embedding tables int8 with one scale a
row. Attention's own products and the head stay in fp32. Only standard ONNX operators are written.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .passes import drop_unused

MIN_EMBEDDING_ROWS = 256  # smaller tables (token types) stay as they are
TINY = np.float32(1e-20)  # keeps the scale of a row of zeros from dividing by zero


def quantize_row_wise(source: Path, target: Path) -> None:
    """Write the row-wise int8 form of a graph.

    Args:
        source: the fp32 graph.
        target: where the int8 graph goes.
    """
    model = onnx.load(source)
    _quantize_products(model)
    _quantize_embeddings(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def quantize_per_channel(source: Path, target: Path) -> None:
    """Write the form that onnxruntime's dynamic quantisation gives, but for the embedding tables.

    Args:
        source: the fp32 graph.
        target: where the int8 graph goes.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a pre-processing that our passes have done
    try:
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
    finally:
        root.setLevel(level)
    model = onnx.load(target)
    _quantize_embeddings(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, target)


class _Builder:
    """A graph that is rewritten node by node, with its weights by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes: list[NodeProto] = []
        self.made: set[str] = set()
        shaped = onnx.shape_inference.infer_shapes(model).graph
        values = [*shaped.value_info, *shaped.input]
        self.ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in values if v.type.tensor_type.HasField("shape")}

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op}:{output}", **attributes))
        self.made.add(output)
        return output

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.asarray(value), name)
            self.graph.initializer.append(self.weights[name])
        return name

    def finish(self) -> None:
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        drop_unused(self.graph)


def _quantize_products(model: onnx.ModelProto) -> None:
    """Replace every product of an activation and a weight; a Gemm too, but for the head's."""
    builder = _Builder(model)
    for node in list(builder.graph.node):
        weight = _weight_of(node, builder)
        if weight is None:
            builder.nodes.append(node)
            continue
        x, output = node.input[0], node.output[0]
        if f"{x}_uint8" not in builder.made:  # Q, K and V share one
            _quantize_rows(builder, x, weight.shape[0])
        has_bias = node.op_type == "Gemm" and len(node.input) == 3
        flat = builder.ranks.get(x) == 2
        product = _multiply(builder, x, node.input[1], weight, output if flat and not has_bias else f"{output}_rows")
        if has_bias:
            product = builder.add("Add", [product, node.input[2]], output if flat else f"{output}_biased")
        if not flat:
            builder.add("Reshape", [product, _shape_with(builder, x, weight.shape[1])], output)
    builder.finish()


def _weight_of(node: NodeProto, builder: _Builder) -> npt.NDArray[np.float32] | None:
    """Give the constant (K, N) matrix a node multiplies by, or None if it is to stay as it is."""
    tensor = builder.weights.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
    if tensor is None or len(tensor.dims) != 2 or tensor.data_type != TensorProto.FLOAT:
        return None
    if node.op_type == "MatMul":
        return numpy_helper.to_array(tensor)
    # GPT-2's layers are Gemms on rows made by a Reshape; BERT's pooler and every classifier are Gemms too, on one row a text, and stay exact.
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    plain = all(
        attributes.get(name, default) == default
        for name, default in (("alpha", 1.0), ("beta", 1.0), ("transA", 0), ("transB", 0))
    )
    return numpy_helper.to_array(tensor) if plain else None


def _quantize_rows(builder: _Builder, x: str, width: int) -> None:
    """Quantise each row of x by its own largest magnitude: x_uint8 (T, K) and x_scale (T, 1)."""
    last = builder.constant("last_axis", np.array([-1], dtype=np.int64))
    if builder.ranks.get(x) != 2:
        x_rows = builder.add(
            "Reshape", [x, builder.constant(f"rows_of_{width}", np.array([-1, width], dtype=np.int64))], f"{x}_rows_in"
        )
    else:
        x_rows = x
    high = builder.add("ReduceMax", [x_rows, last], f"{x}_high", keepdims=1)
    low = builder.add("Neg", [builder.add("ReduceMin", [x_rows, last], f"{x}_low", keepdims=1)], f"{x}_depth")
    largest = builder.add("Max", [high, low, builder.constant("tiny", TINY)], f"{x}_largest")
    scale = builder.add("Mul", [largest, builder.constant("one_127th", np.float32(1 / 127))], f"{x}_scale")  # (T, 1)
    scale_1d = builder.add("Squeeze", [scale, last], f"{x}_scale_1d")  # (T,)
    zero = builder.constant("zero_point", np.uint8(128))
    zeros = builder.add("Expand", [zero, builder.add("Shape", [scale_1d], f"{x}_num_rows")], f"{x}_zeros")
    builder.add("QuantizeLinear", [x_rows, scale_1d, zeros], f"{x}_uint8", axis=0)


def _multiply(builder: _Builder, x: str, name: str, weight: npt.NDArray[np.float32], output: str) -> str:
    scale = np.maximum(np.abs(weight).max(axis=0) / 127, TINY).astype(np.float32)  # (N,)
    columns = builder.constant(f"{name}_int8", np.rint(weight / scale).astype(np.int8))
    zero = builder.constant("zero_point", np.uint8(128))
    total = builder.add("MatMulInteger", [f"{x}_uint8", columns, zero], f"{output}_int32")
    floats = builder.add("Cast", [total], f"{output}_float", to=TensorProto.FLOAT)
    rows = builder.add("Mul", [floats, f"{x}_scale"], f"{output}_by_row")
    return builder.add("Mul", [rows, builder.constant(f"{name}_scale", scale)], output)


def _shape_with(builder: _Builder, x: str, width: int) -> str:
    """Give the name of the shape of x with another last axis, computed once."""
    name = f"{x}_shape_{width}"
    if name not in builder.made:
        leading = f"{x}_leading"
        if leading not in builder.made:
            builder.add("Shape", [x], leading, end=-1)
        last = builder.constant(f"width_{width}", np.array([width], dtype=np.int64))
        builder.add("Concat", [leading, last], name, axis=0)
    return name


def _quantize_embeddings(graph: onnx.GraphProto) -> None:
    """Store embedding tables as int8: Gather, Cast, Mul.

    A scale a table (onnxruntime's own way) would spoil rare rows, and LayerNorm's weights with them; a scale a row costs 4 bytes in hundreds.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for tensor in list(graph.initializer):
        lookups = readers.get(tensor.name, [])
        is_table = (
            len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT and tensor.dims[0] >= MIN_EMBEDDING_ROWS
        )
        if (
            not is_table
            or not lookups
            or any(node.op_type != "Gather" or node.input[0] != tensor.name or _axis(node) for node in lookups)
        ):
            continue
        rows = numpy_helper.to_array(tensor)
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, TINY).astype(np.float32)  # (V, 1)
        graph.initializer.append(numpy_helper.from_array(np.rint(rows / scale).astype(np.int8), f"{tensor.name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{tensor.name}_scale"))
        graph.initializer.remove(tensor)
        for lookup in lookups:
            _replace_lookup(graph, lookup, tensor.name)


def _replace_lookup(graph: onnx.GraphProto, lookup: NodeProto, name: str) -> None:
    indices, output = lookup.input[1], lookup.output[0]
    nodes = [
        helper.make_node("Gather", [f"{name}_int8", indices], [f"{output}_int8"], name=f"{output}_rows"),
        helper.make_node("Gather", [f"{name}_scale", indices], [f"{output}_scale"], name=f"{output}_scales"),
        helper.make_node("Cast", [f"{output}_int8"], [f"{output}_float"], name=f"{output}_cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}_float", f"{output}_scale"], [output], name=f"{output}_scaled"),
    ]
    position = next(index for index, node in enumerate(graph.node) if output in node.output)
    del graph.node[position]
    for offset, node in enumerate(nodes):
        graph.node.insert(position + offset, node)


def _axis(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
