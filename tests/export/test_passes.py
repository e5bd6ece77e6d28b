"""Each clean-up pass keeps a graph's meaning; the row-wise product is what its formula says."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.passes import optimise
from export.quantize import quantize_row_wise
from export.row_wise import PLAIN
from runtime.engines.exactness import exact_options

Array = npt.NDArray[np.float32]


def make_product(weight: Array) -> onnx.ModelProto:
    """One product of a (batch, sequence, K) activation and a weight; input_ids is there for its shape."""
    k, n = weight.shape
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["unused"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", k])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", n])
    graph = helper.make_graph(nodes, "product", [ids, x], [y], [numpy_helper.from_array(weight, "weight")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(file: Path, x: Array) -> Array:
    session = onnxruntime.InferenceSession(str(file), exact_options())
    return np.asarray(session.run(["y"], {"input_ids": np.zeros(x.shape[:2], dtype=np.int64), "x": x})[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 9), st.integers(1, 70), st.integers(1, 40))
def test_the_row_wise_product_is_its_formula(seed: int, batch: int, sequence: int, k: int, n: int) -> None:
    import tempfile

    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(k, n)).astype(np.float32)
    x = (
        generator.normal(size=(batch, sequence, k)) * 10 ** generator.uniform(-3, 3, size=(batch, sequence, 1))
    ).astype(np.float32)
    x[0, 0] = 0  # a row of zeros has no scale of its own
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(make_product(weight), f"{folder}/fp32.onnx")
        quantize_row_wise(Path(folder, "fp32.onnx"), Path(folder, "int8.onnx"), PLAIN)
        actual = run(Path(folder, "int8.onnx"), x)
    rows = x.reshape(-1, k)
    row_scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-20) * np.float32(1 / 127)
    column_scale = np.abs(weight).max(axis=0) / 127
    product = np.rint(rows / row_scale) @ np.rint(weight / column_scale)
    expected = (product * row_scale * column_scale).reshape(batch, sequence, n)
    # A value that lies on the edge of an 8-bit step may fall to either side.
    np.testing.assert_allclose(actual, expected, atol=2 * float((row_scale * column_scale).max()) * 127, rtol=1e-4)
    exact = x @ weight
    bound = k * (
        row_scale.reshape(batch, sequence, 1) * np.abs(weight).max(axis=0)
        + np.abs(x).max(axis=-1, keepdims=True) * column_scale
    )
    assert (np.abs(actual - exact) <= bound + 1e-6).all()


def test_clean_up_keeps_the_answer_and_drops_the_shape_arithmetic(tmp_path: Path) -> None:
    """x (B, S, 12) → Reshape to [size of axis 0, -1, 3, 4], as a trace writes it."""
    constants = {
        "zero": np.array(0),
        "axis": np.array([0]),
        "minus": np.array([-1]),
        "three": np.array([3]),
        "four": np.array([4]),
    }
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value.astype(np.int64), name))
        for name, value in constants.items()
    ]
    nodes += [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["batch_1d"]),
        helper.make_node("Concat", ["batch_1d", "minus", "three", "four"], ["sizes"], axis=0),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Reshape", ["same", "sizes"], ["y"]),
        helper.make_node("Relu", ["x"], ["unread"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", 12])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 3, 4])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    value = np.random.default_rng(0).normal(size=(5, 7, 12)).astype(np.float32)
    before = onnxruntime.InferenceSession(str(file)).run(None, {"x": value})[0]
    counts = optimise(file)
    after = onnxruntime.InferenceSession(str(file)).run(None, {"x": value})[0]
    np.testing.assert_array_equal(before, after)
    assert counts["drop unused"] == 1, counts
    assert [node.op_type for node in onnx.load(file).graph.node] == ["Reshape"]


@pytest.mark.parametrize(
    ("question", "kept"),
    [
        ([("Equal", ["keys", "queries"], "same"), ("Not", ["same"], "asked")], []),
        ([("Equal", ["keys", "two"], "same"), ("Not", ["same"], "asked")], ["If"]),
        ([("Greater", ["keys", "queries"], "asked")], ["If"]),
    ],
)
def test_a_branch_goes_where_a_trace_asks_whether_keys_and_queries_differ_in_number(
    question: list[tuple[str, list[str], str]], kept: list[str], tmp_path: Path
) -> None:
    def branch(op_type: str, name: str) -> onnx.GraphProto:
        node = helper.make_node(op_type, ["x"], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    constants = {"zero": [0], "axis": [1], "end": [2], "two": 2}
    nodes = [
        helper.make_node(
            "Constant", [], [name], value=numpy_helper.from_array(np.array(value, dtype=np.int64), f"{name}_value")
        )
        for name, value in constants.items()
    ]
    nodes += [helper.make_node("Neg", ["x"], ["negative"]), helper.make_node("Neg", ["negative"], ["key"])]
    for name, source in (("keys", "key"), ("queries", "x")):
        nodes += [
            helper.make_node("Shape", [source], [f"{name}_shape"]),
            helper.make_node("Slice", [f"{name}_shape", "axis", "end"], [f"{name}_size"]),
            helper.make_node("Squeeze", [f"{name}_size", "zero"], [name]),
        ]
    nodes += [helper.make_node(op_type, inputs, [output]) for op_type, inputs, output in question]
    nodes.append(
        helper.make_node("If", ["asked"], ["z"], then_branch=branch("Exp", "t"), else_branch=branch("Identity", "e"))
    )
    nodes.append(helper.make_node("Neg", ["z"], ["y"]))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "sequence", 4]) for name in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    value = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    before = onnxruntime.InferenceSession(str(file)).run(None, {"x": value})[0]
    optimise(file)
    np.testing.assert_array_equal(before, onnxruntime.InferenceSession(str(file)).run(None, {"x": value})[0])
    assert [node.op_type for node in onnx.load(file).graph.node if node.op_type == "If"] == kept
