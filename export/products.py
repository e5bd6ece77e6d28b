"""What of a graph is quantised: the products of activations with constant weights, and the tables that rows are gathered from."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .graph import Floats

MIN_EMBEDDING_ROWS = 256  # smaller tables (token types) stay as they are


def products(graph: onnx.GraphProto) -> Iterator[tuple[NodeProto, Floats]]:
    """Give each node that multiplies an activation (…, K) by a constant weight, and the weight (K, N)."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        weight = weight_of(node, constants)
        if weight is not None:
            yield node, weight


def weight_of(node: NodeProto, constants: Mapping[str, TensorProto]) -> Floats | None:
    """Give the constant (K, N) matrix a node multiplies by, or None if it is to stay as it is."""
    tensor = constants.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
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


def embedding_tables(graph: onnx.GraphProto) -> dict[str, Floats]:
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
