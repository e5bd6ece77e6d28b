"""Intervals and tests against published and independent values."""

import pytest
from scipy import stats

from bench.intervals import mcnemar
from trainer.intervals import wilson


@pytest.mark.parametrize(("right", "number"), [(81, 263), (15, 148), (0, 20), (1, 29), (29, 29), (1629, 1821)])
def test_wilson_is_scipys(right: int, number: int) -> None:
    expected = stats.binomtest(right, number).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(right, number) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_wilson_of_newcombes_example() -> None:
    """Newcombe 1998, table I: 81 of 263 gives .2553 to .3662."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(("lost", "gained"), [(3, 0), (10, 2), (5, 5), (1, 0), (30, 18)])
def test_mcnemar_is_the_exact_binomial_test(lost: int, gained: int) -> None:
    assert mcnemar(lost, gained) == pytest.approx(stats.binomtest(lost, lost + gained).pvalue)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_nothing_changed_is_no_evidence() -> None:
    assert mcnemar(0, 0) == 1
