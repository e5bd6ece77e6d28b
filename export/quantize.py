"""A traced fp32 graph to an int8 graph, whatever the architecture.

    int8           row-wise (row_wise.py). The default: closer to fp32, and a text's answer does not depend on the other rows of its batch. Encoders that
                   encoder_weights.py knows are not rewritten here but written afresh, which runs faster.
    int8-channel   onnxruntime's dynamic quantisation: one activation scale a batch, which every row of it shares.
    int8-weights   int8 weights that are read as floats: OpenVINO quantises activations itself, in groups of 128 a row.

Weights are int8 with one scale an output channel, activations uint8, embedding tables int8 with one scale a row. Attention's own products and the head
stay in fp32. Only standard ONNX operators are written.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto

from .graph import Floats, Graph, save
from .passes import drop_unused
from .products import embedding_tables, products, weight_of
from .row_wise import INT8, Rows, Scheme, look_up_rows, multiply_rows, multiply_stored, quantize_rows


def quantize_row_wise(source: Path, target: Path, scheme: Scheme) -> None:
    """Write the row-wise int8 form of a graph.

    Args:
        source: the fp32 graph.
        target: where the int8 graph goes.
        scheme: which weights are int8, and how they are rounded.
    """
    model = onnx.load(source)
    _rewrite(model, scheme, _replace_product)
    save(model, target)


def store_int8(source: Path, target: Path, scheme: Scheme) -> None:
    """Write the form of a graph whose weights are stored as int8 and read as floats.

    Args:
        source: the fp32 graph.
        target: where the other goes.
        scheme: which weights are int8, and how they are rounded.
    """
    model = onnx.load(source)
    _rewrite(model, scheme, _store_weight)
    save(model, target)


def quantize_per_channel(source: Path, target: Path, scheme: Scheme) -> None:
    """Write the form that onnxruntime's dynamic quantisation gives, but for the embedding tables.

    Args:
        source: the fp32 graph.
        target: where the int8 graph goes.
        scheme: which weights are int8; onnxruntime rounds them to nearest.
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
            nodes_to_exclude=[
                node.name for node, _ in products(onnx.load(source).graph) if node.input[1] in scheme.exact
            ],
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
    finally:
        root.setLevel(level)
    model = onnx.load(target)
    _rewrite(model, scheme, None)
    save(model, target)


def quantized_weights(file: Path) -> dict[str, int]:
    """Name the weights and tables that are int8 in a graph of either form, with their sizes in bytes."""
    stored = onnx.load(file).graph.initializer
    ends = (INT8, "_quantized")  # ours and onnxruntime's
    return {
        tensor.name.removesuffix(end): math.prod(tensor.dims)
        for tensor in stored
        for end in ends
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2 and tensor.name.endswith(end)
    }


# (graph, node, weight, scheme, flat: whether it multiplies rows (T, K), what was prepared so far by activation)
Replace = Callable[[Graph, NodeProto, Floats, Scheme, bool, dict[str, Rows]], None]


def _rewrite(model: onnx.ModelProto, scheme: Scheme, replace: Replace | None) -> None:
    """Replace every look-up in an embedding table and, where a function is given, every product of an activation and a weight."""
    ranks, tables = _ranks(model), embedding_tables(model.graph)
    graph, prepared = Graph.rewriting(model), dict[str, Rows]()
    for node in model.graph.node:
        weight = weight_of(node, graph.constants)
        if replace and weight is not None and node.input[1] not in scheme.exact:
            replace(graph, node, weight, scheme, ranks.get(node.input[0]) == 2, prepared)
        elif node.op_type == "Gather" and node.input[0] in tables:
            table, indices = node.input[:2]
            look_up_rows(graph, table, tables[table], indices, scheme=scheme, output=node.output[0])
        else:
            graph.keep(node)
    graph.replace(model.graph)
    drop_unused(model.graph)


def _store_weight(
    graph: Graph, node: NodeProto, weight: Floats, scheme: Scheme, flat: bool, prepared: dict[str, Rows]
) -> None:
    has_bias, output = node.op_type == "Gemm" and len(node.input) == 3, node.output[0]
    x = Rows(node.input[0], "", "", 0)
    product = multiply_stored(graph, x, node.input[1], weight, scheme=scheme, output=None if has_bias else output)
    if has_bias:
        graph.op("Add", product, node.input[2], output=output)


def _replace_product(
    graph: Graph, node: NodeProto, weight: Floats, scheme: Scheme, flat: bool, prepared: dict[str, Rows]
) -> None:
    """Multiply in int8 on rows (T, K), and give the product the leading axes of x again."""
    (x, name), output = node.input[:2], node.output[0]
    has_bias = node.op_type == "Gemm" and len(node.input) == 3
    if x not in prepared:  # query, key and value share one
        rows = x if flat else graph.op("Reshape", x, graph.ints(-1, weight.shape[0]))
        prepared[x] = quantize_rows(graph, rows, rows=graph.op("Shape", rows, start=0, end=1))
    direct = output if flat and not has_bias else None
    product = multiply_rows(graph, prepared[x], name, weight, scheme=scheme, output=direct)
    if has_bias:
        product = graph.op("Add", product, node.input[2], output=output if flat else None)
    if not flat:
        leading = graph.once(f"{x}_leading", "Shape", x, end=-1)
        shape = graph.once(f"{x}_shape_{weight.shape[1]}", "Concat", leading, graph.ints(weight.shape[1]), axis=0)
        graph.op("Reshape", product, shape, output=output)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    shaped = onnx.shape_inference.infer_shapes(model).graph
    values = [*shaped.value_info, *shaped.input]
    return {v.name: len(v.type.tensor_type.shape.dim) for v in values if v.type.tensor_type.HasField("shape")}
