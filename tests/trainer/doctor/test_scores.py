"""Rules about the scores of a regression."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .examining import examined, of


def scored(scores: Iterable[float]) -> list[dict[str, Any]]:
    return [{"text": f"apple number {number}", "score": score} for number, score in enumerate(scores)]


EVEN = [number / 100 for number in range(100)]
BELL = np.random.default_rng(0).normal(size=2000).tolist()
PRICES = np.exp(BELL[:200]).tolist()


@pytest.mark.parametrize(("scores", "found"), [([3.0, 3.0], [("train", 2, ())]), ([3.0, 3.5], [])], ids=str)
def test_one_score_is_nothing_to_learn(scores: list[float], found: list[Any], tmp_path: Path) -> None:
    assert of("one-score", examined(tmp_path, scored(scores), task="regression")) == found


def test_a_score_far_from_the_rest_is_told(tmp_path: Path) -> None:
    findings = examined(tmp_path, scored([*EVEN, 1e9]), scored([*EVEN, -8.0, 1.5]), task="regression")
    assert of("far-score", findings) == [("train", 1, (101,)), ("eval", 1, (101,))]
    message = next(found.message for found in findings if found.rule == "far-score")
    assert (
        message
        == "1 of 101 rows (0.99 %) has scores far from the rest: 1e+09, where nine of ten are from 0.05 to 0.95."
    )


@pytest.mark.parametrize(
    "scores", [BELL, PRICES, [0.0] * 98 + [1.0, 5.0], [*EVEN[:30], 1e9]], ids=["bell", "prices", "mostly 0", "few"]
)
def test_scores_of_a_wide_spread_are_not_far(scores: list[float], tmp_path: Path) -> None:
    assert of("far-score", examined(tmp_path, scored(scores), task="regression")) == []


def test_scores_of_another_unit_are_told(tmp_path: Path) -> None:
    percents = [100 * score for score in EVEN[::5]]
    findings = examined(tmp_path, scored(EVEN), scored(percents), scored(EVEN[::2]), task="regression")
    assert of("other-unit", findings) == [("eval", 19, (2, 3, 4, 5, 6))]


def test_a_few_scores_beyond_trains_are_no_other_unit(tmp_path: Path) -> None:
    assert of("other-unit", examined(tmp_path, scored(BELL[:200]), scored(BELL[200:240]), task="regression")) == []
