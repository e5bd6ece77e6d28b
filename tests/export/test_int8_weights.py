"""The variant int8-weights: what is written, what verifies it, and in which arithmetic OpenVINO multiplies it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers

import runtime
from export.__main__ import main
from export.encoder_graph import EXACT, stored_int8, write_graph
from export.encoder_weights import EncoderWeights, read_weights
from runtime.bundle import Variant, read
from runtime.encode import Batch
from runtime.engines import Settings
from runtime.engines.openvino import ARITHMETIC, open_openvino
from runtime.machine import cpu_flags

LIMITS = ["--max-change=1", "--max-metric-drop=1"]  # random weights decide by a hair
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")
needs_vnni = pytest.mark.skipif(
    not cpu_flags().intersection(ARITHMETIC["int8-weights"].flags), reason="this CPU has no VNNI"
)


@needs_vnni
@pytest.mark.parametrize(("family", "shape"), [("bert", "token"), ("deberta-v2", "single-label"), ("gpt2", "pair")])
def test_weights_are_int8_and_answers_near_fp32(
    family: str, shape: str, make_run: Callable[[str, str], Path], tmp_path: Path, texts: list[str]
) -> None:
    bundle = tmp_path / "bundle"
    run = str(make_run(family, shape))
    assert main([run, f"--output={bundle}", "--variants", "fp32", "int8-weights", *LIMITS]) == 0
    variant = read(bundle).variants["int8-weights"]
    assert (variant.precision, variant.session_options, variant.passed) == ("int8-weights", {}, True)
    graph = onnx.load(bundle / variant.file).graph
    stored = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    weights = {node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in stored | floats}
    assert len(stored) >= 2 * 4  # query, key and value (one or three), output, up and down, in two layers
    assert weights <= stored
    questions = list(zip(texts[:8], texts[8:16], strict=True)) if read(bundle).pair else texts[:8]
    rough, exact = (
        runtime.load(bundle, engine=engine, variant=variant).predict(questions)
        for engine, variant in (("openvino", "int8-weights"), ("ort-cpu", "fp32"))
    )
    errors = [np.abs(a.logits - b.logits).max() for a, b in zip(rough, exact, strict=True)]
    assert 0 < max(errors) < 0.3


@pytest.fixture(scope="module")
def wide() -> EncoderWeights:
    """A layer of width 128: OpenVINO quantises no activation that is narrower than a group."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=256,
        initializer_range=0.2,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    weights = read_weights(model, per_token=False, max_length=64)
    assert isinstance(weights, EncoderWeights)
    return weights


@needs_vnni
def test_products_are_int8_in_the_variant_and_in_no_other(wide: EncoderWeights, tmp_path: Path) -> None:
    """Groups quantise what is multiplied: without them the same file would be as far from fp32 as its weights are."""
    files = {name: tmp_path / f"{name}.onnx" for name in ("exact", "stored")}
    for file, arithmetic in zip(files.values(), (EXACT, stored_int8()), strict=True):
        onnx.save(write_graph(wide, inputs=INPUTS, arithmetic=arithmetic), file)
    ids = np.random.default_rng(0).integers(5, 50, 24)
    batch = Batch(ids, np.zeros(24, dtype=np.int64), np.array([0, 16, 24], dtype=np.int32))
    variant = Variant(
        file="stored.onnx",
        precision="int8-weights",
        inputs=INPUTS,
        session_options={},
        disabled_optimizers=(),
        batch_invariant=False,
        max_error=0.0,
        passed=True,
    )

    def logits(name: str, precision: str) -> np.ndarray:
        how = {"variant": replace(variant, precision=precision), "pad_token_id": 0, "settings": Settings(threads=1)}
        (answer,) = open_openvino(files[name], **how).run([batch])
        return answer

    exact, as_floats, as_int8 = logits("exact", "fp32"), logits("stored", "fp32"), logits("stored", "int8-weights")
    spread = float(np.abs(exact).max())
    assert 0 < np.abs(as_floats - exact).max() < 0.05 * spread
    assert 1e-4 * spread < np.abs(as_int8 - as_floats).max() < 0.05 * spread
