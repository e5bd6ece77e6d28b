"""Attention over packed texts, by blocks and in a rectangle, against torch's own on one text after the other."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.attention import Block, find_blocks
from trainer.attention import attend as attend_by_blocks
from trainer.noise import Noise
from trainer.rectangle import attend as attend_in_rectangle
from trainer.rectangle import make_rectangle

Attend = Callable[..., torch.Tensor]


@pytest.fixture(params=["blocks", "rectangle"])
def attend_to(request: pytest.FixtureRequest) -> Callable[[list[int]], Attend]:
    """Give a function: the lengths of texts → attention over them."""

    def make(lengths: list[int]) -> Attend:
        if request.param == "blocks":
            return partial(attend_by_blocks, blocks=find_blocks(bounds(lengths)))
        return partial(attend_in_rectangle, rectangle=make_rectangle(bounds(lengths)))

    return make


def bounds(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def one_by_one(
    q: torch.Tensor, kv: torch.Tensor, lengths: list[int], num_heads: int, window: int | None
) -> torch.Tensor:
    """Give what torch computes for each text alone."""
    found, start, firsts = [], 0, len(q) != len(kv)
    for number, length in enumerate(lengths):
        rows = slice(start, start + length)
        queries = q[number : number + 1] if firsts else q[rows]
        heads = [part.unflatten(1, (num_heads, -1)).transpose(0, 1) for part in (queries, *kv[rows].chunk(2, dim=1))]
        near = torch.ones(len(queries), length, dtype=torch.bool)
        if window is not None:
            near = (torch.arange(len(queries))[:, None] - torch.arange(length)).abs() <= window
        found.append(F.scaled_dot_product_attention(*heads, attn_mask=near).transpose(0, 1).flatten(1))
        start += length
    return torch.cat(found)


def tensors(num_queries: int, num_tokens: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(num_tokens)
    q = torch.randn(num_queries, width, generator=generator, dtype=torch.float64, requires_grad=True)
    kv = torch.randn(num_tokens, 2 * width, generator=generator, dtype=torch.float64, requires_grad=True)
    return q, kv


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=7),
    st.integers(1, 3),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_each_text_attends_to_itself_as_if_it_were_alone_forward_and_backward(
    attend_to: Callable[[list[int]], Attend], lengths: list[int], num_heads: int, firsts: bool, window: int | None
) -> None:
    if firsts and len(lengths) == sum(lengths):
        firsts = False  # texts of one token each: the first is all there is
    q, kv = tensors(len(lengths) if firsts else sum(lengths), sum(lengths), 4 * num_heads)
    expected = one_by_one(q, kv, lengths, num_heads, window)
    found = attend_to(lengths)(q, kv, num_heads=num_heads, window=window)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)  # the softmax is in fp32
    gradient = torch.randn_like(expected)
    for one, two in zip(
        torch.autograd.grad(found, (q, kv), gradient), torch.autograd.grad(expected, (q, kv), gradient), strict=True
    ):
        torch.testing.assert_close(one, two, atol=2e-6, rtol=1e-5)


def test_texts_of_one_length_make_one_block() -> None:
    assert find_blocks(bounds([3, 3, 5, 2, 2, 2])) == (Block(0, 2, 0, 3), Block(2, 1, 6, 5), Block(3, 3, 11, 2))


def test_dropped_weights_get_no_gradient_and_the_others_one_that_is_scaled(
    attend_to: Callable[[list[int]], Attend],
) -> None:
    """The reference: the same factors, applied to the weights by torch."""
    lengths, p = [6, 6], 0.4
    q, kv = tensors(12, 12, 8)
    found = attend_to(lengths)(q, kv, num_heads=2, p=p, noise=Noise(3))
    heads = [part.view(2, 6, 2, 4).transpose(1, 2) for part in (q, *kv.chunk(2, dim=1))]  # (b, heads, n, d)
    weights = torch.softmax(heads[0] @ heads[1].transpose(2, 3) / 2, dim=-1)
    factors = Noise(3).factors(weights.flatten(0, 1), p).view_as(weights)
    assert 0.2 < (factors == 0).float().mean() < 0.6
    expected = ((weights * factors) @ heads[2]).transpose(1, 2).reshape(12, 8)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    gradient = torch.randn_like(expected)
    for one, two in zip(
        torch.autograd.grad(found, (q, kv), gradient), torch.autograd.grad(expected, (q, kv), gradient), strict=True
    ):
        torch.testing.assert_close(one, two, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_answer_has_the_type_of_the_queries(attend_to: Callable[[list[int]], Attend], dtype: torch.dtype) -> None:
    q, kv = (tensor.to(dtype) for tensor in tensors(5, 5, 8))
    assert attend_to([5])(q, kv, num_heads=2).dtype == dtype


def test_padding_in_a_rectangle_reaches_no_gradient_even_where_it_sees_nothing() -> None:
    """With a window of 0 a place that is padding sees none of its text's tokens."""
    lengths = [6, 1]
    q, kv = tensors(7, 7, 8)
    attend = partial(attend_in_rectangle, rectangle=make_rectangle(bounds(lengths)))
    attend(q, kv, num_heads=2, window=0).sum().backward()
    assert q.grad is not None
    assert kv.grad is not None
    assert bool(torch.isfinite(q.grad).all())
    torch.testing.assert_close(kv.grad, torch.cat([torch.zeros(7, 8), torch.ones(7, 8)], dim=1).double())
