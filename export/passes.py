"""Clean a traced graph up, in order. Every pass keeps the graph's meaning, which `parity` verifies afterwards; only standard operators come out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .graph import save


def optimise(file: Path) -> dict[str, int]:
    """Run all passes over a graph.

    Args:
        file: the graph; it is replaced.

    Returns:
        The number of nodes before and after each pass, by its name.
    """
    model = onnx.load(file)
    counts = {"traced": len(model.graph.node)}
    for name, apply in PASSES.items():
        apply(model.graph)
        counts[name] = len(model.graph.node)
    save(model, file)
    return counts


def _hoist_constants(graph: onnx.GraphProto) -> None:
    """Make Constant nodes initializers, and equal small initializers one: a trace has hundreds of copies of [0] and [-1]."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = node.attribute[0].t if node.attribute[0].name == "value" else None
        if tensor is not None:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
            graph.node.remove(node)
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    renamed = {}
    for tensor in list(graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.nbytes <= 1024:
            kept = first.setdefault((tensor.data_type, array.shape, array.tobytes()), tensor.name)
            if kept != tensor.name:
                renamed[tensor.name] = kept
                graph.initializer.remove(tensor)
    _rename(graph, renamed)


def _fix_reshapes(graph: onnx.GraphProto) -> None:
    """Reshape by constants: [batch of x, -1, heads, size] computed at run time becomes [0, -1, heads, size], where 0 keeps the input's size.

    Holds where the size is that of axis 0 and stands at position 0: axis 0 is the batch in every tensor of an encoder.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        shape = producers.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is None or shape.op_type != "Concat" or not _is_size_of_axis_0(shape.input[0], producers, constants):
            continue
        rest = [constants.get(name) for name in shape.input[1:]]
        if any(value is None or value.size != 1 for value in rest):
            continue
        sizes = [0, *(int(value.item()) for value in rest if value is not None)]
        name = f"shape_{'_'.join(map(str, sizes))}"
        if name not in constants:
            constants[name] = np.array(sizes, dtype=np.int64)
            graph.initializer.append(numpy_helper.from_array(constants[name], name))
        node.input[1] = name


def _is_size_of_axis_0(name: str, producers: dict[str, onnx.NodeProto], constants: dict[str, np.ndarray]) -> bool:
    unsqueeze = producers.get(name)
    gather = producers.get(unsqueeze.input[0]) if unsqueeze is not None and unsqueeze.op_type == "Unsqueeze" else None
    if gather is None or gather.op_type != "Gather" or gather.input[1] not in constants:
        return False
    source = producers.get(gather.input[0])
    return (
        source is not None
        and source.op_type == "Shape"
        and not source.attribute
        and constants[gather.input[1]].item() == 0
    )


def _settle_branches(graph: onnx.GraphProto) -> None:
    """Take the branch that an encoder always takes, where a trace asks in every layer whether there are as many keys as queries (DeBERTa's does).

    It attends to itself, so there are. OpenVINO runs no If whose result has a rank that it does not know, as this one's.
    """
    producers = {output: node for node in graph.node for output in node.output}
    renamed = {}
    for node in [node for node in graph.node if node.op_type == "If"]:
        (equal,) = (attribute.g for attribute in node.attribute if attribute.name == "else_branch")
        if len(equal.node) == 1 and equal.node[0].op_type == "Identity" and _differ_in_size(node.input[0], producers):
            renamed[node.output[0]] = equal.node[0].input[0]
            graph.node.remove(node)
    _rename(graph, renamed)


def _differ_in_size(name: str, producers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a value says that two tensors have different sizes: Not(Equal(Shape(·) …, Shape(·) …))."""
    unequal = _origin(name, producers, through=("Cast",))
    equal = producers.get(unequal.input[0]) if unequal is not None and unequal.op_type == "Not" else None
    if equal is None or equal.op_type != "Equal":
        return False
    sizes = [_origin(operand, producers, through=("Squeeze", "Slice", "Gather")) for operand in equal.input]
    return all(size is not None and size.op_type == "Shape" for size in sizes)


def _origin(name: str, producers: dict[str, onnx.NodeProto], *, through: tuple[str, ...]) -> onnx.NodeProto | None:
    """Find the node a value comes from, behind nodes of some kinds."""
    node = producers.get(name)
    while node is not None and node.op_type in through:
        node = producers.get(node.input[0])
    return node


def _drop_identities(graph: onnx.GraphProto) -> None:
    """Remove nodes that copy: Identity, and Cast to the type an input or weight already has."""
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    renamed = {}
    for node in list(graph.node):
        idle = node.op_type == "Identity" or (
            node.op_type == "Cast" and types.get(node.input[0], TensorProto.UNDEFINED) == node.attribute[0].i
        )
        if idle and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
            graph.node.remove(node)
    _rename(graph, renamed)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that nothing reads."""
    wanted = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):  # the order is topological, so readers come before what they read
        if any(output in wanted for output in node.output):
            wanted.update(node.input)
            wanted.update(_captured(node))
        else:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in wanted]:
        graph.initializer.remove(tensor)
    del graph.value_info[:]


def _captured(node: onnx.NodeProto) -> set[str]:
    """Find the outer names that a node's subgraphs (If, Loop) read."""
    inner = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return {name for graph in inner for child in graph.node for name in {*child.input, *_captured(child)}}


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    def final(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = final(name)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g, renamed)


PASSES: dict[str, Callable[[onnx.GraphProto], None]] = {
    "hoist constants": _hoist_constants,
    "fix reshapes": _fix_reshapes,
    "settle branches": _settle_branches,
    "drop identities": _drop_identities,
    "drop unused": drop_unused,
}
