"""How fast a run goes, and beside what its device can do."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from trainer.device import choose_place
from trainer.flops import ADAPTING
from trainer.lora import add_adapters
from trainer.pace import Pace, Speed, overall, share_of_peak
from trainer.peak import Ceiling, find_ceiling, measure_peak


def lap(**changes: float) -> dict[str, Any]:
    return {"step": 10, "seconds": 1.0, "texts_per_s": 8.0, "tokens_per_s": 80.0, **changes}


def test_a_lap_says_what_was_computed_beside_what_could_be() -> None:
    pace = Pace(Ceiling(lambda lengths: 1e6 * float(lengths.sum()), 5e9))
    pace.count(np.array([3, 7], dtype=np.int32))
    time.sleep(0.01)
    found = pace.lap()
    assert found["flops_per_s"] == pytest.approx(1e6 * found["tokens_per_s"])
    assert found["peak_flops_per_s"] == 5e9
    assert pace.lap()["flops_per_s"] == 0
    assert "flops_per_s" not in Pace().lap()


def test_laps_on_several_machines_are_summed_up_by_their_seconds() -> None:
    laps = [lap(flops_per_s=1e9, peak_flops_per_s=4e9), lap(seconds=3.0, flops_per_s=5e9, peak_flops_per_s=8e9)]
    assert overall(laps) == Speed(4.0, 8.0, 80.0, 4e9, 7e9)
    assert overall([*laps, lap()]) == Speed(5.0, 8.0, 80.0), "resumed where it was not measured"


def test_the_share_is_told_where_it_is_known() -> None:
    speed = Speed(4.0, 8.0, 80.0, 4e9, 8e9)
    assert share_of_peak(speed, precision="bf16") == "50% of the 8 GFLOP/s that matrix products reach here in bf16"
    assert share_of_peak(Speed(4.0, 8.0, 80.0)) is share_of_peak(None) is None


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra"])
def test_learning_takes_the_flops_that_torch_counts(family: str, make_encoder_folder: Callable[[str], Path]) -> None:
    """Forward and backward of a text of 11 tokens."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        make_encoder_folder(family), attn_implementation="eager", num_labels=3
    )
    place = choose_place(device="cpu", precision="fp32")
    ceiling = find_ceiling(model, place)
    assert ceiling is not None
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.full((1, 11), 7)).logits.sum().backward()
    assert ceiling.flops(np.array([11], dtype=np.int32)) == counter.get_total_flops()


def test_learning_by_adapters_takes_a_pass_less(make_encoder_folder: Callable[[str], Path]) -> None:
    """But for the adapters' own products, and the first layer's, whose rows need no gradient."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        make_encoder_folder("bert"), attn_implementation="eager", num_labels=3
    )
    add_adapters(model, rank=1, alpha=2, num_new=0)
    ceiling = find_ceiling(model, choose_place(device="cpu", precision="fp32"), passes=ADAPTING)
    assert ceiling is not None
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.full((1, 11), 7)).logits.sum().backward()
    assert ceiling.flops(np.array([11], dtype=np.int32)) == pytest.approx(counter.get_total_flops(), rel=0.2)


def test_a_model_whose_flops_are_not_known_has_no_share(make_encoder_folder: Callable[[str], Path]) -> None:
    config = transformers.AutoConfig.from_pretrained(make_encoder_folder("deberta-v2"))
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    assert find_ceiling(model, choose_place(device="cpu", precision="fp32")) is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_peak_is_a_rate_that_a_cpu_can_have_and_draws_no_random_number(precision: str) -> None:
    before = torch.get_rng_state()
    assert 1e7 < measure_peak(torch.device("cpu"), precision) < 1e14
    assert torch.equal(before, torch.get_rng_state())
