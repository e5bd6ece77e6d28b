"""PyTorch and ONNX logits agree for every architecture and task, fp32 and int8."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runtime
from export.contract import check_contract
from export.reference import Reference
from trainer.checkpoint import open_run

FAMILIES = ("bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "xlm-roberta", "modernbert", "gpt2")
SHAPES = ("single-label", "multi-label", "regression", "token", "pair")
CASES = [(family, shape) for family in FAMILIES for shape in SHAPES if (family, shape) != ("gpt2", "token")]


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_onnx_answers_as_transformers_does(
    family: str,
    shape: str,
    make_run: Callable[[str, str], Path],
    make_bundle: Callable[[str, str], Path],
    texts: list[str],
) -> None:
    """Compare with transformers' own tokenizer and model, not with ours, so that tokenising is held to account too."""
    bundle, run = make_bundle(family, shape), make_run(family, shape)
    tokenizer = transformers.AutoTokenizer.from_pretrained(run)
    model = open_run(run).load_model()
    chosen = [text for text in texts if len(text) < 60][:24]
    rows = list(zip(chosen, reversed(chosen), strict=True)) if shape == "pair" else chosen
    max_length = runtime.load(bundle).manifest.max_length
    for variant, limit in (("fp32", 1e-4), ("int8", 0.2)):
        predictions = runtime.load(bundle, variant=variant, engine="ort-cpu").predict(rows)
        for row, prediction in zip(rows, predictions, strict=True):
            parts = row if isinstance(row, tuple) else (row,)
            feeds = tokenizer(*parts, return_tensors="pt", truncation=True, max_length=max_length)
            with torch.no_grad():
                expected = model(**feeds).logits[0].numpy()
            np.testing.assert_allclose(prediction.logits, expected, atol=limit, rtol=limit)


WRITTEN = {"bert", "roberta", "distilbert", "electra", "mpnet", "xlm-roberta"}


@pytest.mark.parametrize("family", FAMILIES)
def test_post_norm_encoders_are_written_and_all_others_traced(
    family: str, make_bundle: Callable[[str, str], Path]
) -> None:
    report = json.loads((make_bundle(family, "single-label") / "report.json").read_text())
    assert (report["exporter"] == "written") == (family in WRITTEN)


@pytest.mark.parametrize(("family", "shape"), [case for case in CASES if case[1] in ("single-label", "token")])
def test_int8_keeps_the_contract_at_every_shape_and_mask(
    family: str, shape: str, make_run: Callable[[str, str], Path], make_bundle: Callable[[str, str], Path]
) -> None:
    """The quantised file itself beside PyTorch on the same mask; random weights, so the tolerance is wide and a wrong mask is far outside it."""
    bundle, checkpoint = make_bundle(family, shape), open_run(make_run(family, shape))
    check_contract(
        bundle / "onnx" / "model_quantized.onnx",
        reference=Reference.load(checkpoint),
        max_length=checkpoint.max_length,
        limit=0.25,
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("variant", ["model.onnx", "model_quantized.onnx"])
def test_a_row_of_padding_alone_is_finite(family: str, variant: str, make_bundle: Callable[[str, str], Path]) -> None:
    bundle = make_bundle(family, "single-label")
    session = onnxruntime.InferenceSession(str(bundle / "onnx" / variant))
    pad_token_id = runtime.load(bundle).manifest.pad_token_id
    rows = {
        "input_ids": np.array([[5, 6, 7], [pad_token_id] * 3]),
        "attention_mask": np.array([[1, 1, 1], [0, 0, 0]]),
        "token_type_ids": np.zeros((2, 3), dtype=np.int64),
    }
    (logits,) = session.run(None, {node.name: rows[node.name] for node in session.get_inputs()})
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(2, 40), padding=st.integers(0, 20))
def test_int8_logits_are_bitwise_the_same_at_any_right_padding(
    family: str, make_bundle: Callable[[str, str], Path], seed: int, length: int, padding: int
) -> None:
    bundle = make_bundle(family, "single-label")
    session = _session(bundle / "onnx" / "model_quantized.onnx")
    manifest = runtime.load(bundle).manifest
    length = min(length, manifest.max_length - padding)
    text = np.random.default_rng(seed).integers(5, 500, (1, length))
    beside = np.random.default_rng(seed + 1).integers(5, 500, (2, length + padding))
    wide = np.concatenate([np.pad(text, ((0, 0), (0, padding)), constant_values=manifest.pad_token_id), beside])
    mask = np.ones_like(wide)
    mask[0, length:] = 0
    (alone,) = session.run(None, _feeds(session, text, np.ones_like(text)))
    (together,) = session.run(None, _feeds(session, wide, mask))
    np.testing.assert_array_equal(alone[0], together[0])


@cache
def _session(file: Path) -> Any:
    return onnxruntime.InferenceSession(str(file), disabled_optimizers=["SkipLayerNormFusion"])


def _feeds(session: Any, input_ids: Any, mask: Any) -> dict[str, Any]:
    feeds = {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
    return {node.name: feeds[node.name] for node in session.get_inputs()}
