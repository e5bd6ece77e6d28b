"""Focal losses and the weights that balance labels, against their formulas."""

from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import Weighting
from trainer.losses import (
    EFFECTIVE_BETA,
    IGNORED,
    WEIGHTINGS,
    LossOptions,
    binary_cross_entropy,
    constant_binary_cross_entropy,
    constant_cross_entropy,
    constant_square_error,
    cross_entropy,
    label_weights,
    presence_weights,
)

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, IGNORED, 3, 1, 2])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 3.0])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_cross_entropy_is_its_formula(gamma: float, weights: torch.Tensor | None) -> None:
    kept = CLASSES != IGNORED
    p = LOGITS.softmax(dim=1)[kept, CLASSES[kept]]
    scale = torch.ones(5) if weights is None else weights[CLASSES[kept]]
    expected = (-scale * (1 - p) ** gamma * p.log()).sum()
    torch.testing.assert_close(cross_entropy(LOGITS, CLASSES, LossOptions(weights, 0.0, gamma)), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_binary_cross_entropy_is_its_formula(gamma: float) -> None:
    truth = F.one_hot(CLASSES.clamp(min=0), 4).float()
    p = LOGITS.sigmoid()
    there, absent = WEIGHTS * (1 - p) ** gamma * -p.log(), p**gamma * -(1 - p).log()
    expected = torch.where(truth > 0, there, absent).sum()
    torch.testing.assert_close(binary_cross_entropy(LOGITS, truth, LossOptions(WEIGHTS, 0.0, gamma)), expected)


def test_without_gamma_a_focal_loss_is_the_usual_one() -> None:
    small = LossOptions(WEIGHTS, 0.1, 1e-9)
    torch.testing.assert_close(
        cross_entropy(LOGITS, CLASSES, small), cross_entropy(LOGITS, CLASSES, LossOptions(WEIGHTS, 0.1))
    )


def test_gradients_of_very_sure_answers_are_finite() -> None:
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    for loss in (
        cross_entropy(logits, torch.tensor([0, 0]), LossOptions(focal_gamma=2.0)),
        binary_cross_entropy(logits, torch.ones(2, 2), LossOptions(focal_gamma=2.0)),
    ):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.sampled_from(["inverse", "effective"]))
def test_the_mean_weight_of_a_row_is_1_and_rarer_labels_weigh_more(rows: list[int], weighting: str) -> None:
    weights = label_weights([np.array(row) for row in rows], 6, weighting)
    counts = np.bincount(rows, minlength=6)
    assert weights[rows].mean() == pytest.approx(1.0, rel=1e-5)
    assert (weights[counts == 0] == 1).all()
    present = np.flatnonzero(counts)
    order = present[np.argsort(counts[present], kind="stable")]
    assert (np.diff(weights[order]) <= 1e-6).all()


def test_effective_weights_are_those_of_the_effective_number() -> None:
    rows = [np.array(0)] * 30_000 + [np.array(1)] * 100
    weights = label_weights(rows, 2, "effective")
    numbers = [(1 - EFFECTIVE_BETA**count) / (1 - EFFECTIVE_BETA) for count in (30_000, 100)]
    assert weights[1] / weights[0] == pytest.approx(numbers[0] / numbers[1], rel=1e-5)
    assert weights[1] / weights[0] < 300, "less than the inverse of the frequencies"


def test_a_labels_presence_weighs_as_much_as_it_is_rarer_than_its_absence() -> None:
    rows = [np.array([n < 2, n < 9], dtype=np.float32) for n in range(10)]
    np.testing.assert_allclose(presence_weights(rows, 2, "inverse"), [4, 1 / 9], rtol=1e-6)


def test_every_weighting_of_the_flag_has_its_formula() -> None:
    assert set(get_args(Weighting)) == set(WEIGHTINGS)


# answers that are the same for all


def test_the_least_cross_entropy_of_one_answer_is_that_of_the_shares() -> None:
    four = [np.array(label) for label in (0, 1, 2, 3)]
    assert constant_cross_entropy(four, four) == pytest.approx(np.log(4))
    tokens = [np.array([IGNORED, 0, 0]), np.array([1, 1, IGNORED])]
    assert constant_cross_entropy(tokens, tokens) == pytest.approx(np.log(2))
    uneven = [np.array(label) for label in (0, 0, 0, 1)]
    assert constant_cross_entropy(uneven, uneven[-1:]) == pytest.approx(np.log(4)), "measured on the rare label alone"


def test_the_least_binary_cross_entropy_of_one_answer_is_that_of_the_shares() -> None:
    rows = [np.array([1, 0], dtype=np.float32), np.array([0, 0], dtype=np.float32)]
    assert constant_binary_cross_entropy(rows, rows) == pytest.approx(np.log(2) / 2, abs=1e-9)
    assert constant_binary_cross_entropy(rows, rows[:1]) == pytest.approx(np.log(2) / 2, abs=1e-9)


def test_the_least_square_error_of_one_answer_is_that_of_the_mean() -> None:
    scores = [np.array(score, dtype=np.float32) for score in (1, 3)]
    assert constant_square_error(scores, scores) == 1
    assert constant_square_error(scores, [np.array(5.0)]) == 9


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
@settings(max_examples=50)
def test_no_constant_answer_costs_less(labels: list[int]) -> None:
    targets = [np.array(label) for label in labels]
    least = constant_cross_entropy(targets, targets)
    for guess in np.random.default_rng(0).dirichlet(np.ones(4), size=20):
        assert -np.log(guess[labels]).mean() >= least - 1e-9
