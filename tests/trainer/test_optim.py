"""The learning rate's course, and AdamW as BERT was fine-tuned with."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
import transformers

from trainer.config import Schedule
from trainer.optim import SCHEDULES, learning_rate_factor, make_adamw, set_learning_rate, usual_learning_rate

MIDDLE, END = 60, 109  # of 10 steps of warm-up and 100 more


def factor(step: int, schedule: str, *, warmup_steps: int = 10, total_steps: int = 110) -> float:
    return learning_rate_factor(step, schedule=schedule, warmup_steps=warmup_steps, total_steps=total_steps)


def test_every_schedule_of_the_flag_has_its_curve() -> None:
    assert set(get_args(Schedule)) == set(SCHEDULES)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_warm_up_rises_in_equal_steps_to_the_peak_and_never_starts_at_0(schedule: str) -> None:
    assert [factor(step, schedule) for step in range(11)] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert factor(10, schedule) == 1.0


@pytest.mark.parametrize(
    ("schedule", "middle", "end"),
    [
        ("linear", 0.5, 0.01),
        ("cosine", 0.5, 0.5 * (1 + math.cos(0.99 * math.pi))),
        ("constant", 1.0, 1.0),
    ],
)
def test_after_the_warm_up_the_schedule_holds(schedule: str, middle: float, end: float) -> None:
    assert factor(MIDDLE, schedule) == pytest.approx(middle)
    assert factor(END, schedule) == pytest.approx(end)
    assert factor(END, schedule) > 0, "no step is wasted"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warm_up_the_first_step_is_at_the_peak(schedule: str) -> None:
    assert factor(0, schedule, warmup_steps=0) == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_alone_and_a_single_step_have_a_rate(schedule: str) -> None:
    assert factor(109, schedule, warmup_steps=110) == pytest.approx(110 / 111)
    assert factor(0, schedule, warmup_steps=0, total_steps=1) == 1.0


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "deberta-v2", "modernbert", "gpt2"])
def test_matrices_decay_and_biases_and_norms_do_not(family: str, make_encoder_folder: Callable[[str], Path]) -> None:
    model = transformers.AutoModel.from_pretrained(make_encoder_folder(family))
    optimizer = make_adamw(model, weight_decay=0.01)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = dict(model.named_parameters())
    assert len(decay) == len(names), "every parameter is in one group"
    for name, parameter in names.items():
        is_norm = any(mark in name.lower() for mark in ("layernorm", "norm.", "ln_"))
        expected = 0.0 if name.endswith("bias") or is_norm else 0.01
        assert decay[id(parameter)] == expected, name


def test_frozen_parameters_stay_out() -> None:
    model = torch.nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    assert [len(group["params"]) for group in make_adamw(model, weight_decay=0.1).param_groups] == [1]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_first_step_is_as_long_as_the_learning_rate_whatever_the_gradient(scale: float) -> None:
    """Bias correction: m/(1-β₁) over √(v/(1-β₂)) is the gradient's sign."""
    model = torch.nn.Linear(4, 3)
    before = model.weight.detach().clone()
    optimizer = make_adamw(model, weight_decay=0.0)
    set_learning_rate(optimizer, 0.01)
    (scale * model(torch.ones(4)).sum()).backward()
    optimizer.step()
    torch.testing.assert_close(before - model.weight.detach(), torch.full((3, 4), 0.01), atol=1e-6, rtol=1e-3)


def test_a_step_is_that_of_torchs_plain_adamw() -> None:
    """The reference: torch.optim.AdamW, not fused, with the same settings."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    weight = model.weight.detach().clone().requires_grad_(True)
    optimizer = make_adamw(model, weight_decay=0.1)
    reference = torch.optim.AdamW([weight], lr=1e-2, weight_decay=0.1, fused=False)
    for step in range(5):
        gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        model.weight.grad, weight.grad = gradient.clone(), gradient.clone()
        set_learning_rate(optimizer, 1e-2)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(model.weight, weight)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "deberta-v2", "modernbert", "gpt2"])
def test_each_layer_learns_slower_than_the_one_above(family: str, make_encoder_folder: Callable[[str], Path]) -> None:
    """Two layers: embeddings, the first, the second, the head."""
    folder = make_encoder_folder(family)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, pad_token_id=0)
    optimizer = make_adamw(model, weight_decay=0.01, layer_decay=0.5)
    set_learning_rate(optimizer, 1.0)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {name: rate[id(parameter)] for name, parameter in model.named_parameters()}
    assert rates.keys() == dict(model.named_parameters()).keys()
    words = next(name for name, p in model.named_parameters() if p is model.get_input_embeddings().weight)
    assert rates[words] == 0.125
    assert {rate for name, rate in rates.items() if re.search(r"\b(layers?|h)\.0\.", name)} == {0.25}
    assert {rate for name, rate in rates.items() if re.search(r"\b(layers?|h)\.1\.", name)} == {0.5}
    assert [rate for name, rate in rates.items() if name.startswith(("classifier", "score", "pre_classifier"))][-1] == 1


@pytest.mark.parametrize(
    ("width", "adapters", "rate"),
    [
        (32, False, 1e-4),
        (384, False, 1e-4),
        (768, False, 5e-5),
        (1024, False, 3.75e-5),
        (384, True, 1e-3),
        (768, True, 5e-4),
    ],
)
def test_the_usual_rate_falls_with_the_width(width: int, adapters: bool, rate: float) -> None:
    assert usual_learning_rate(width, adapters=adapters) == pytest.approx(rate)
