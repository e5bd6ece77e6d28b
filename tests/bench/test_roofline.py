"""FLOPs against a count by hand and against torch's own counter, and the peak of a machine."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from bench import roofline
from bench.flops import read_model
from bench.roofline import Peak, best_peaks
from runtime.errors import InputError
from trainer.flops import FAMILIES, Shape, flops_of_texts


def test_flops_by_hand() -> None:
    """One layer, hidden 4, intermediate 8, 3 labels, a text of 5 tokens.

    Query, key, value and output: 4 · (2 · 5 · 4 · 4) = 640. Feed-forward: 2 · (2 · 5 · 4 · 8) = 640. Scores and their product with the values:
    2 · (2 · 5 · 5 · 4) = 400. The head, on one token: 2 · 4 · 4 + 2 · 4 · 3 = 56.
    """
    shape = Shape(layers=1, hidden=4, intermediate=8, embedding=4, labels=3)
    assert flops_of_texts(shape, np.array([5], dtype=np.int32)).tolist() == [640 + 640 + 400 + 56]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet"])
def test_flops_are_those_that_torch_counts(family: str, make_encoder_folder: Callable[[str], Path]) -> None:
    folder = make_encoder_folder(family)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", num_labels=3
    ).eval()
    model.config.save_pretrained(folder / "head")
    input_ids = torch.full((1, 11), 7)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=input_ids)
    counted = flops_of_texts(read_model(folder / "head"), np.array([11], dtype=np.int32))
    assert counted.tolist() == [counter.get_total_flops()]


def test_padding_is_not_counted() -> None:
    shape = Shape(layers=2, hidden=8, intermediate=16, embedding=8, labels=2)
    short, long = flops_of_texts(shape, np.array([3, 30], dtype=np.int32))
    assert short == flops_of_texts(shape, np.array([3], dtype=np.int32))[0] < long


def test_a_family_whose_flops_are_not_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
    with pytest.raises(InputError, match=r"bert.*Got model_type 'deberta-v2'"):
        read_model(tmp_path)
    assert "deberta-v2" not in FAMILIES


def test_the_best_peak_of_a_precision_is_its_highest() -> None:
    low, high, other = (
        Peak(precision, "way", rate, (1, 1, 1), "shared")
        for precision, rate in (("fp32", 1e9), ("fp32", 2e9), ("int8", 9e9))
    )
    assert best_peaks([low, high, other]) == {"fp32": high, "int8": other}


def test_peaks_are_measured_in_every_arrangement(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, on one small size: numbers above a hundredth of what any CPU gives and below a thousand times that."""
    monkeypatch.setattr(roofline, "SIZES", ((64, 64, 64),))
    monkeypatch.setattr(roofline, "SECONDS", 0.002)
    monkeypatch.setattr(roofline, "WAYS", {name: roofline.WAYS[name] for name in ("numpy fp32", "onnxruntime int8")})
    for arrangement in roofline.ARRANGEMENTS:
        peaks = roofline._peaks(arrangement, 2)
        assert [(peak.precision, peak.way) for peak in peaks] == [("fp32", "numpy fp32"), ("int8", "onnxruntime int8")]
        assert all(1e7 < peak.flops_per_s < 1e14 for peak in peaks)
