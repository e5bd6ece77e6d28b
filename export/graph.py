"""An ONNX graph in the making: nodes in the order they run, constants by name."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]
ITEM_BYTES = {kind: helper.tensor_dtype_to_np_dtype(kind).itemsize for kind in helper.get_all_tensor_dtypes()}

OPSET = 18  # what onnxruntime 1.14 and later run; nothing newer is needed by an encoder
IR_VERSION = 8  # that opset's own
MAX_FILE_BYTES = 2**31 - 2**20  # a protobuf message has less than 2 GiB; a graph's nodes take far less than 1 MiB
DATA_SUFFIX = "_data"  # of the file beside it that holds the weights of a larger one: model.onnx_data


def save(model: onnx.ModelProto, file: Path, *, check: bool = True) -> None:
    """Write a model as one file, or, where that would pass protobuf's limit, with its weights in a second one beside it.

    Args:
        model: the model.
        file: where it goes.
        check: whether it must be valid by the standard.
    """
    data = file.with_name(file.name + DATA_SUFFIX)
    data.unlink(missing_ok=True)  # onnx would write behind what is there
    if (
        sum(math.prod(tensor.dims) * ITEM_BYTES[tensor.data_type] for tensor in model.graph.initializer)
        < MAX_FILE_BYTES
    ):
        onnx.save(model, file)
    else:
        onnx.save(model, file, save_as_external_data=True, location=data.name, size_threshold=1024)
    if check:
        onnx.checker.check_model(str(file))


def remove(file: Path) -> None:
    """Remove a model, with its weights where they are in a file of their own."""
    file.unlink()
    file.with_name(file.name + DATA_SUFFIX).unlink(missing_ok=True)


def size_of(file: Path) -> int:
    """Give the bytes of a model, with its weights where they are in a file of their own."""
    data = file.with_name(file.name + DATA_SUFFIX)
    return file.stat().st_size + (data.stat().st_size if data.is_file() else 0)


class Graph:
    """Nodes and constants; every method gives the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.made: set[str] = set()
        self._taken: set[str] = set()  # names of the model that is being rewritten

    @classmethod
    def rewriting(cls, model: onnx.ModelProto) -> "Graph":
        """Begin with the constants of a model and none of its nodes; `replace` puts the result into it."""
        graph = cls()
        graph.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        graph._taken = {name for node in model.graph.node for name in node.output}
        return graph

    def replace(self, graph: onnx.GraphProto) -> None:
        """Give a graph these nodes and constants for its own."""
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self.nodes)
        self.move_constants(graph)

    def move_constants(self, graph: onnx.GraphProto) -> None:
        """Give the constants to a graph, one after the other: protobuf copies what it is given, and a large model should be in memory once."""
        for name in list(self.constants):
            graph.initializer.append(self.constants.pop(name))

    def keep(self, node: NodeProto) -> None:
        """Add a node of the model that is being rewritten as it is."""
        self.nodes.append(node)
        self.made.update(node.output)

    def op(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node of one output, which is named after it where no name is given."""
        output = output or self._free_name(op_type)
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=f"{op_type}:{output}", **attributes))
        self.made.add(output)
        return output

    def split(self, x: str, num_parts: int) -> list[str]:
        """Cut the last axis of x (…, num_parts · N) into equal parts."""
        outputs = [f"{x}_part_{part}" for part in range(num_parts)]
        self.nodes.append(helper.make_node("Split", [x], outputs, name=f"Split:{x}", axis=-1, num_outputs=num_parts))
        self.made.update(outputs)
        return outputs

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add a constant, once a name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def ints(self, *values: int) -> str:
        """Add a list of int64, as axes and shapes are given."""
        return self.constant("ints_" + "_".join(map(str, values)).replace("-", "m"), np.array(values, dtype=np.int64))

    def scalar(self, value: float | int | np.generic) -> str:
        """Add a number: a Python float as float32, an int as int64, numpy's as they are."""
        kinds: dict[type, type[np.generic]] = {float: np.float32, int: np.int64}
        typed = kinds[type(value)](value) if type(value) in kinds else np.asarray(value)[()]
        return self.constant(f"{typed.dtype}_{typed}", typed)

    def once(self, name: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node unless one of this name is there."""
        return name if name in self.made else self.op(op_type, *inputs, output=name, **attributes)

    def _free_name(self, op_type: str) -> str:
        name = f"{op_type}_{len(self.nodes)}"
        return name if name not in self._taken else f"{name}_rewritten"
