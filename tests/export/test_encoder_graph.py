"""What is written from an encoder's weights, and what is left to the tracer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from export.__main__ import main
from export.contract import check_contract
from export.encoder_graph import ACTIVATIONS, EXACT, Arithmetic, row_wise, write_graph
from export.encoder_weights import EncoderWeights, read_weights
from export.graph import Graph
from export.reference import Reference
from export.row_wise import quantize_rows
from trainer.checkpoint import open_run
from trainer.families import BOUNDED, FAMILIES

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture(scope="module")
def bert(make_run: Callable[[str, str], Path]) -> Any:
    return open_run(make_run("bert", "single-label")).load_model()


def read(model: Any) -> EncoderWeights:
    weights = read_weights(model, per_token=False, max_length=64)
    assert isinstance(weights, EncoderWeights), weights
    return weights


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_every_function_a_family_may_use_can_be_written() -> None:
    assert {function for family in FAMILIES.values() for _, function in family.head if function} <= set(ACTIVATIONS)
    assert set(BOUNDED) <= set(ACTIVATIONS)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("hidden_act", "silu", "activation 'silu' is not among gelu, gelu_new, gelu_pytorch_tanh, relu"),
        ("position_embedding_type", "relative_key", "relative positions"),
        ("is_decoder", True, "is a decoder"),
        ("model_type", "bertolt", "bertolt is not among the post-norm encoders bert,"),
    ],
)
def test_a_model_that_cannot_be_written_says_why(
    bert: Any, setting: str, value: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(bert.config), setting, value, raising=False)
    monkeypatch.setitem(vars(bert.config), setting, value)
    assert reason in str(read_weights(bert, per_token=False, max_length=64))


def test_camembert_is_a_roberta(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.CamembertConfig(**sizes, vocab_size=100, max_position_embeddings=66, type_vocab_size=1)
    model = transformers.CamembertForSequenceClassification(config).eval()
    inputs = ("input_ids", "attention_mask")
    onnx.save(write_graph(read(model), inputs=inputs, arithmetic=EXACT), tmp_path / "model.onnx")
    reference = Reference(model, inputs, config.pad_token_id)
    assert check_contract(tmp_path / "model.onnx", reference=reference, max_length=64, limit=1e-4) < 1e-4


def test_to_write_what_cannot_be_written_is_an_error(
    make_run: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("deberta-v2", "single-label")
    assert main([str(run), f"--output={tmp_path / 'b'}", "--exporter=written"]) == 1
    assert "--exporter written, but deberta-v2 is not among the post-norm encoders" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_last_layer_is_computed_for_first_tokens_alone(bert: Any) -> None:
    """The products of the last layer but for keys and values have as many rows as there are texts, whatever their length."""
    model = write_graph(read(bert), inputs=INPUTS, arithmetic=EXACT)
    names = ["layer_1_query", "layer_1_output", "layer_1_up", "layer_1_down"]
    products = [node.output[0] for name in names for node in model.graph.node if name in node.input]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in products
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {name: np.ones((3, 11), dtype=np.int64) for name in INPUTS}
    assert [len(array) for array in session.run(products, feeds)] == [3] * 4


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("arithmetic", [EXACT, row_wise()])
def test_every_constant_is_read(make_run: Callable[[str, str], Path], per_token: bool, arithmetic: Arithmetic) -> None:
    model = open_run(make_run("bert", "token" if per_token else "single-label")).load_model()
    weights = read_weights(model, per_token=per_token, max_length=64)
    assert isinstance(weights, EncoderWeights)
    graph = write_graph(weights, inputs=INPUTS, arithmetic=arithmetic).graph
    read_names = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} - read_names == set()


def test_onnxruntime_fuses_each_row_wise_product_into_one_kernel(bert: Any, tmp_path: Path) -> None:
    """What the 1 in row_wise.py is for; without it the sums go through three more passes."""
    model = write_graph(read(bert), inputs=INPUTS, arithmetic=row_wise())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    fused = operators(onnx.load(tmp_path / "fused.onnx"))
    assert operators(model).count("MatMulInteger") == fused.count("MatMulIntegerToFloat") == 4 + 5
    assert "MatMulInteger" not in fused
    assert (
        fused.count("Transpose") <= 5
    )  # ids, types, and what attention gives; queries, keys and values are read where they lie


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 50), st.sampled_from([None, *BOUNDED]))
def test_a_quantised_row_is_off_by_half_a_step_at_most(
    seed: int, rows: int, width: int, activation: str | None
) -> None:
    generator = np.random.default_rng(seed)
    x = (generator.normal(size=(rows, width)) * 10 ** generator.uniform(-3, 2, size=(rows, 1))).astype(np.float32)
    if activation is not None:
        x = np.maximum(x, -BOUNDED[activation].lowest).astype(np.float32)
    graph = Graph()
    quantised = quantize_rows(graph, "x", rows=graph.op("Shape", "x", start=0, end=1), activation=activation)
    value = onnx.helper.make_tensor_value_info
    drawn = onnx.helper.make_graph(
        graph.nodes,
        "rows",
        [value("x", onnx.TensorProto.FLOAT, [None, width])],
        [value(quantised.values, onnx.TensorProto.UINT8, None), value(quantised.scale, onnx.TensorProto.FLOAT, None)],
        list(graph.constants.values()),
    )
    model = onnx.helper.make_model(drawn, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    values, scale = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    restored = (values.astype(np.float32) - quantised.zero_point) * scale
    assert (np.abs(restored - x) <= 0.5001 * scale + 1e-7).all()
