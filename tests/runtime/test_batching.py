"""Packing, planning and padding lose nothing."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.batching import MAX_BATCH_TOKENS, pad, plan
from runtime.encode import Batch
from runtime.errors import InputError

LENGTHS = st.lists(st.integers(1, 600), max_size=200)
ALL = ("input_ids", "attention_mask", "token_type_ids")


def lengths_of(numbers: list[int]) -> npt.NDArray[np.int32]:
    return np.array(numbers, dtype=np.int32)


def make_batch(lengths: list[int]) -> Batch:
    """Give texts of these lengths with ids from 1 that are all different."""
    total = sum(lengths)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return Batch(np.arange(1, total + 1), np.arange(total) % 2, bounds)


@given(LENGTHS, st.integers(1, 1000))
def test_a_plan_covers_every_text_once(numbers: list[int], budget: int) -> None:
    batches = plan(lengths_of(numbers), max_batch_tokens=budget)
    covered = np.concatenate([*batches, np.empty(0, dtype=np.intp)])
    assert sorted(covered.tolist()) == list(range(len(numbers)))
    assert all(len(batch) for batch in batches)


@given(LENGTHS, st.integers(1, 1000))
def test_padded_tokens_stay_within_the_budget_unless_a_text_is_alone(numbers: list[int], budget: int) -> None:
    lengths = lengths_of(numbers)
    for batch in plan(lengths, max_batch_tokens=budget):
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget


@given(LENGTHS, st.integers(1, 1000))
def test_the_longest_texts_come_first(numbers: list[int], budget: int) -> None:
    lengths = lengths_of(numbers)
    in_order = [int(length) for batch in plan(lengths, max_batch_tokens=budget) for length in lengths[batch]]
    assert in_order == sorted(numbers, reverse=True)


@given(st.lists(st.integers(1, MAX_BATCH_TOKENS), min_size=1, max_size=200))
def test_a_batch_is_as_full_as_its_budget_allows(numbers: list[int]) -> None:
    lengths = lengths_of(numbers)
    for batch in plan(lengths)[:-1]:
        assert (len(batch) + 1) * lengths[batch].max() > MAX_BATCH_TOKENS


@given(LENGTHS, st.integers(2, 64))
def test_no_lane_gets_more_than_its_share_unless_a_text_is_alone(numbers: list[int], num_lanes: int) -> None:
    lengths = lengths_of(numbers)
    for batch in plan(lengths, num_lanes=num_lanes):
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= -(-lengths.sum() // num_lanes)


@given(LENGTHS)
def test_a_plan_is_the_same_every_time_and_equal_lengths_keep_their_order(numbers: list[int]) -> None:
    lengths = lengths_of(numbers)
    first, second = plan(lengths), plan(lengths)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
    flat = [index for batch in first for index in batch.tolist()]
    assert flat == sorted(range(len(numbers)), key=lambda index: -numbers[index])


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_below_one_is_refused_with_its_value(budget: int) -> None:
    with pytest.raises(InputError, match=f"max_batch_tokens must be a positive integer. Got {budget} instead"):
        plan(lengths_of([3]), max_batch_tokens=budget)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(0, 9))
def test_padding_is_undone_by_its_mask(lengths: list[int], pad_token_id: int) -> None:
    batch = make_batch(lengths)
    padded = pad(batch, inputs=ALL, pad_token_id=pad_token_id)
    assert {name: feed.shape for name, feed in padded.feeds.items()} == dict.fromkeys(ALL, (len(lengths), max(lengths)))
    assert {feed.dtype for feed in padded.feeds.values()} == {np.dtype(np.int64)}
    np.testing.assert_array_equal(padded.feeds["input_ids"][padded.mask], batch.input_ids)
    np.testing.assert_array_equal(padded.feeds["token_type_ids"][padded.mask], batch.token_type_ids)
    assert set(padded.feeds["input_ids"][~padded.mask].tolist()) <= {pad_token_id}
    np.testing.assert_array_equal(padded.feeds["attention_mask"], padded.mask)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_padding_is_on_the_right(lengths: list[int]) -> None:
    mask = pad(make_batch(lengths), inputs=ALL, pad_token_id=0).mask
    assert mask.sum(axis=1).tolist() == lengths
    assert all(row[:length].all() for row, length in zip(mask, lengths, strict=True))


def test_only_the_named_inputs_are_fed() -> None:
    assert list(pad(make_batch([2]), inputs=("attention_mask", "input_ids"), pad_token_id=0).feeds) == [
        "attention_mask",
        "input_ids",
    ]


@given(st.data(), st.lists(st.integers(1, 20), min_size=1, max_size=20))
def test_take_picks_whole_texts_in_the_order_asked_for(data: st.DataObject, lengths: list[int]) -> None:
    batch = make_batch(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=30))
    taken = batch.take(np.array(chosen, dtype=np.intp))
    assert taken.lengths.tolist() == [lengths[index] for index in chosen]
    assert (taken.cu_seqlens.dtype, taken.cu_seqlens[0]) == (np.int32, 0)
    for position, index in enumerate(chosen):
        there = slice(*taken.cu_seqlens[position : position + 2])
        here = slice(*batch.cu_seqlens[index : index + 2])
        np.testing.assert_array_equal(taken.input_ids[there], batch.input_ids[here])
        np.testing.assert_array_equal(taken.token_type_ids[there], batch.token_type_ids[here])
