"""int8 inside the forward pass: sums are exact, rounding is the graph's, and gradients pass straight through it."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer import int8
from trainer.families import BOUNDED
from trainer.int8 import EXACT_TERMS, ROW_WISE, to_steps

ACTIVATIONS = (None, *BOUNDED)


def rows(seed: int, number: int, width: int, activation: str | None = None) -> torch.Tensor:
    drawn = torch.randn(number, width, generator=torch.Generator().manual_seed(seed)) * 3
    return drawn.clamp(min=-BOUNDED[activation].lowest) if activation else drawn


def linear(seed: int, width: int, height: int) -> torch.nn.Linear:
    torch.manual_seed(seed)
    return torch.nn.Linear(width, height)


@given(st.integers(0, 2**31), st.integers(1, 7), st.integers(1, 40), st.sampled_from(ACTIVATIONS))
def test_a_value_is_off_by_half_a_step_of_its_row_at_most(
    seed: int, number: int, width: int, activation: str | None
) -> None:
    x = rows(seed, number, width, activation)
    steps = to_steps(x, activation=activation)
    assert steps.values.dtype == torch.int8
    off = (steps.as_floats(torch.float64) - x).abs()
    assert bool((off <= steps.scale * 0.5001).all())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_row_of_zeros_stays_one(activation: str | None) -> None:
    assert torch.equal(to_steps(torch.zeros(2, 5), activation=activation).as_floats(torch.float32), torch.zeros(2, 5))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_product_is_that_of_the_steps_and_exact(activation: str | None) -> None:
    x, layer = rows(0, 9, 300, activation) * 50, linear(1, 300, 17)
    with torch.no_grad():
        left, right = to_steps(x, activation=activation), to_steps(layer.weight)
        expected = left.as_floats(torch.float64) @ right.as_floats(torch.float64).T + layer.bias
        actual = ROW_WISE.multiply(x, layer, activation=activation)
    assert float((actual - expected).abs().max() / expected.abs().max()) < 1e-6


@pytest.mark.parametrize("by_integers", [True, False])
@pytest.mark.parametrize("width", [1, EXACT_TERMS, EXACT_TERMS + 1, 3000])
def test_a_sum_of_the_largest_steps_is_exact_on_every_machine_and_under_autocast(
    width: int, by_integers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "_multiplies_integers", lambda: by_integers)
    x, weight = torch.full((2, width), -128, dtype=torch.int8), torch.full((3, width), 127, dtype=torch.int8)
    x[1, 0] = 127  # a difference of 255 · 127 in a sum of up to 49 million must not get lost
    with torch.autocast("cpu", torch.bfloat16):
        sums = int8._integer_product(x, weight)
    assert sums.dtype == torch.int32
    assert sums.tolist() == [[-128 * 127 * width] * 3, [-128 * 127 * width + 255 * 127] * 3]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_a_product_of_the_rounded_values(activation: str | None) -> None:
    x, layer, weights = rows(0, 9, 30, activation), linear(1, 30, 17), rows(2, 9, 17)
    left = to_steps(x, activation=activation).as_floats(torch.float32).requires_grad_()
    right = to_steps(layer.weight).as_floats(torch.float32).detach().requires_grad_()
    ((left @ right.T) * weights).sum().backward()
    x.requires_grad_()
    (ROW_WISE.multiply(x, layer, activation=activation) * weights).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(x.grad, left.grad)
    torch.testing.assert_close(layer.weight.grad, right.grad)
    torch.testing.assert_close(layer.bias.grad, weights.sum(dim=0))


def test_several_products_of_the_same_rows_are_what_each_is_alone() -> None:
    x, one, two = rows(0, 5, 16), linear(1, 16, 8), linear(2, 16, 3)
    together = ROW_WISE.multiply(x, one, two)
    assert torch.equal(together, torch.cat([ROW_WISE.multiply(x, one), ROW_WISE.multiply(x, two)], dim=1))


def test_what_is_mixed_is_rounded_without_the_values_bias_which_comes_out_exact() -> None:
    """A context that is nothing but the bias has no rounding error at all."""
    value, output = linear(1, 16, 8), linear(2, 8, 8)
    context: Any = value.bias.repeat(3, 1)
    torch.testing.assert_close(ROW_WISE.mix(context, value, output), output(context))


def test_rows_that_are_looked_up_are_rounded_and_positions_with_types_as_one() -> None:
    torch.manual_seed(0)
    words, positions, types = (torch.nn.Embedding(number, 16) for number in (20, 10, 2))
    ids, places, kinds = torch.tensor([3, 19, 3]), torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1])

    def rounded(x: torch.Tensor) -> torch.Tensor:
        return to_steps(x).as_floats(torch.float32)

    found = ROW_WISE.look_up((words, ids), (positions, places), (types, kinds))
    torch.testing.assert_close(found, rounded(words(ids)) + rounded(positions(places) + types(kinds)))
    found.sum().backward()
    assert words.weight.grad is not None
    assert words.weight.grad[3].tolist() == [2.0] * 16, "rounding counts as the identity"


def test_the_same_numbers_make_the_same_steps_as_in_the_graph() -> None:
    """ONNX's QuantizeLinear rounds half to even, as torch does; numpy's rint stands for it here."""
    x = np.array([[127.0, 0.5, 1.5, -2.5, -127.0]], dtype=np.float32)
    assert to_steps(torch.from_numpy(x)).values.tolist() == [[127, 0, 2, -2, -127]]
    assert np.rint(x).tolist() == [[127, 0, 2, -2, -127]]
