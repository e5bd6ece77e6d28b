"""Batches: which rows, and in which order."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.visit import GROUP_BATCHES, Visits


def visited(lengths: npt.NDArray[np.int32], *, seed: int = 0, epoch: int = 0, batch_size: int = 8) -> list[list[int]]:
    return [batch.tolist() for batch in by_rows(lengths, batch_size, seed=seed).epoch(epoch)]


def by_rows(lengths: npt.NDArray[np.int32], batch_size: int, *, seed: int = 0) -> Visits:
    return Visits(lengths=lengths, batch_size=batch_size, batch_tokens=None, seed=seed)


def by_tokens(lengths: npt.NDArray[np.int32], batch_tokens: int, *, seed: int = 0) -> Visits:
    return Visits(lengths=lengths, batch_size=32, batch_tokens=batch_tokens, seed=seed)


def random_lengths(count: int) -> npt.NDArray[np.int32]:
    return np.random.default_rng(0).integers(5, 120, size=count).astype(np.int32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(1, 12), st.integers(0, 3))
def test_an_epoch_gives_every_row_once_in_as_many_batches_as_counted(rows: int, batch_size: int, epoch: int) -> None:
    batches = visited(random_lengths(rows), batch_size=batch_size, epoch=epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(rows))
    assert len(batches) == by_rows(random_lengths(rows), batch_size).num_batches
    assert sum(len(batch) < batch_size for batch in batches) <= 1, "only one batch is short"


@pytest.mark.parametrize(
    ("rows", "batch_size", "expected"),
    [
        (1, 8, 1),
        (8, 8, 1),
        (9, 8, 2),
        (16, 8, 2),
        (5, 1, 5),
        (GROUP_BATCHES * 8, 8, 50),
        (GROUP_BATCHES * 8 + 1, 8, 51),
    ],
)
def test_batches_are_counted(rows: int, batch_size: int, expected: int) -> None:
    assert by_rows(random_lengths(rows), batch_size).num_batches == expected == len(visited(random_lengths(rows)[:rows], batch_size=batch_size))  # fmt: skip


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = random_lengths(200)
    first = visited(lengths, seed=1, epoch=2)
    np.random.seed(5)  # the global generator has no say
    assert visited(lengths, seed=1, epoch=2) == first
    assert visited(lengths, seed=1, epoch=3) != first
    assert visited(lengths, seed=2, epoch=2) != first


def test_rows_of_like_length_stand_together_and_batches_in_no_order_of_length() -> None:
    lengths = random_lengths(800)
    batches = visited(lengths)

    def padding(batches: Sequence[Sequence[int]]) -> float:
        cells = sum(len(batch) * int(lengths[list(batch)].max()) for batch in batches)
        return 1 - int(lengths.sum()) / cells

    order = np.random.default_rng(1).permutation(800)
    shuffled = [order[start : start + 8].tolist() for start in range(0, 800, 8)]
    assert padding(batches) < 0.05 < 0.3 < padding(shuffled)
    means = [lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_within_a_batch_rows_are_sorted_by_length() -> None:
    lengths = random_lengths(100)
    for batch in visited(lengths):
        assert lengths[batch].tolist() == sorted(lengths[batch])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.sampled_from([by_rows, by_tokens]), st.integers(1, 9), st.data())
def test_a_run_goes_on_from_any_step_with_the_batches_it_would_have_had(
    rows: int, kind: Callable[..., Visits], size: int, data: st.DataObject
) -> None:
    visits, epochs = kind(random_lengths(rows), size * (40 if kind is by_tokens else 1), seed=1), 3

    def batches(step: int) -> list[list[int]]:
        return [batch.tolist() for batch in visits.from_step(step, epochs=epochs)]

    whole = batches(0)
    assert len(whole) == epochs * visits.num_batches
    step = data.draw(st.integers(0, len(whole)))
    assert batches(step) == whole[step:]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=400), st.integers(1, 3000), st.integers(0, 3))
def test_by_tokens_an_epoch_gives_every_row_once_and_no_batch_is_empty(
    lengths: list[int], batch_tokens: int, epoch: int
) -> None:
    visits = by_tokens(np.array(lengths, dtype=np.int32), batch_tokens)
    batches = list(visits.epoch(epoch))
    assert sorted(int(index) for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == visits.num_batches
    assert all(len(batch) for batch in batches)


def test_by_tokens_batches_have_like_many_of_them_and_of_short_rows_more_rows() -> None:
    lengths = random_lengths(6000)
    batches = list(by_tokens(lengths, 1000).epoch(0))
    tokens = np.array([lengths[batch].sum() for batch in batches])
    assert tokens.mean() == pytest.approx(1000, rel=0.01)
    assert np.quantile(np.abs(tokens / 1000 - 1), 0.99) < 0.2
    rows, means = [len(batch) for batch in batches], [lengths[batch].mean() for batch in batches]
    assert np.corrcoef(rows, means)[0, 1] < -0.7
    assert max(rows) > 3 * min(rows)
