"""A traced fp32 graph to an int8 graph, whatever the architecture.

    int8           row-wise (row_wise.py). The default: closer to fp32, and a text's answer does not depend on the other rows of its batch. Encoders that
                   encoder_weights.py knows are not rewritten here but written afresh, which runs faster.
    int8-channel   onnxruntime's dynamic quantisation: one activation scale a batch, which every row of it shares.

Weights are int8 with one scale an output channel, activations uint8, embedding tables int8 with one scale a row. Attention's own products and the head
stay in fp32. Only standard ONNX operators are written.
"""

import logging
from collections import defaultdict
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .graph import Floats, Graph
from .passes import drop_unused
from .row_wise import Rows, look_up_rows, multiply_rows, quantize_rows

MIN_EMBEDDING_ROWS = 256  # smaller tables (token types) stay as they are


def quantize_row_wise(source: Path, target: Path) -> None:
    """Write the row-wise int8 form of a graph.

    Args:
        source: the fp32 graph.
        target: where the int8 graph goes.
    """
    model = onnx.load(source)
    _rewrite(model, products=True)
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
    _rewrite(model, products=False)
    onnx.save(model, target)


def _rewrite(model: onnx.ModelProto, *, products: bool) -> None:
    """Replace every look-up in an embedding table and, where asked, every product of an activation and a weight."""
    ranks, tables = _ranks(model), _embedding_tables(model.graph)
    graph, prepared = Graph.rewriting(model), dict[str, Rows]()
    for node in model.graph.node:
        weight = _weight_of(node, graph) if products else None
        if weight is not None:
            _replace_product(graph, node, weight, flat=ranks.get(node.input[0]) == 2, prepared=prepared)
        elif node.op_type == "Gather" and node.input[0] in tables:
            table, indices = node.input[:2]
            look_up_rows(graph, table, tables[table], indices, output=node.output[0])
        else:
            graph.keep(node)
    graph.replace(model.graph)
    drop_unused(model.graph)
    onnx.checker.check_model(model)


def _replace_product(graph: Graph, node: NodeProto, weight: Floats, *, flat: bool, prepared: dict[str, Rows]) -> None:
    """Multiply in int8 on rows (T, K), and give the product the leading axes of x again."""
    (x, name), output = node.input[:2], node.output[0]
    has_bias = node.op_type == "Gemm" and len(node.input) == 3
    if x not in prepared:  # query, key and value share one
        rows = x if flat else graph.op("Reshape", x, graph.ints(-1, weight.shape[0]))
        prepared[x] = quantize_rows(graph, rows, rows=graph.op("Shape", rows, start=0, end=1))
    product = multiply_rows(graph, prepared[x], name, weight, output=output if flat and not has_bias else None)
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


def _weight_of(node: NodeProto, graph: Graph) -> Floats | None:
    """Give the constant (K, N) matrix a node multiplies by, or None if it is to stay as it is."""
    tensor = graph.constants.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
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


def _embedding_tables(graph: onnx.GraphProto) -> dict[str, Floats]:
    """Find the tables that nodes only gather rows of."""
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if len(tensor.dims) == 2
        and tensor.data_type == TensorProto.FLOAT
        and tensor.dims[0] >= MIN_EMBEDDING_ROWS
        and readers[tensor.name]
        and all(_gathers_rows(node, tensor.name) for node in readers[tensor.name])
    }


def _gathers_rows(node: NodeProto, table: str) -> bool:
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return node.op_type == "Gather" and node.input[0] == table and axis == 0
