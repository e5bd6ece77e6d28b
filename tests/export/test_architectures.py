"""PyTorch and ONNX logits agree for every architecture and task, fp32 and int8."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import runtime
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
