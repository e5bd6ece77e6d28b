"""A text gets the same answer alone, in any batch, and beside other threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runtime

pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")

FAMILIES = ("bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "xlm-roberta", "modernbert", "gpt2")
CASES = [*((family, "single-label") for family in FAMILIES), ("bert", "token"), ("bert", "pair")]
POOL = 32  # texts that batches are drawn from
Alone = tuple[runtime.Classifier, list[Any], list[Any]]  # a classifier, texts, and the logits of each alone


@pytest.fixture(scope="module")
def answered_alone(make_bundle: Callable[[str, str], Path], texts: list[str]) -> Callable[[str, str, str], Alone]:
    """Give a function that answers a pool of texts one by one: (family, shape, variant) → classifier, texts, logits."""

    @cache
    def answer(family: str, shape: str, variant: str) -> Alone:
        classifier = runtime.load(make_bundle(family, shape), engine="ort-cpu", variant=variant)
        singles = ["?", "ok", *texts[: POOL - 3], "word " * 80]
        pool = list(zip(singles, reversed(singles), strict=True)) if classifier.manifest.pair else singles
        return classifier, pool, [classifier.predict(text).logits for text in pool]

    return answer


def twice(answered: Alone, indices: list[int], max_batch_tokens: int) -> Iterator[tuple[Any, Any]]:
    """Answer some of the texts in a batch; give each one's logits, and those it has alone."""
    classifier, pool, alone = answered
    together = replace(classifier, max_batch_tokens=max_batch_tokens).predict([pool[index] for index in indices])
    return ((prediction.logits, alone[index]) for index, prediction in zip(indices, together, strict=True))


BATCHES = st.tuples(
    st.lists(st.integers(0, POOL - 1), min_size=1, max_size=24), st.sampled_from([1, 64, 200, 512, 4096])
)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(("family", "shape"), CASES)
@FEW
@given(batch=BATCHES)
def test_int8_answers_are_bitwise_the_same_alone_and_in_any_batch(
    family: str, shape: str, answered_alone: Callable[[str, str, str], Any], batch: tuple[list[int], int]
) -> None:
    for together, alone in twice(answered_alone(family, shape, "int8"), *batch):
        np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(("family", "shape"), CASES)
@FEW
@given(batch=BATCHES)
def test_fp32_answers_agree_alone_and_in_any_batch(
    family: str, shape: str, answered_alone: Callable[[str, str, str], Any], batch: tuple[list[int], int]
) -> None:
    for together, alone in twice(answered_alone(family, shape, "fp32"), *batch):
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "variant"), [("single-label", "int8"), ("token", "int8"), ("pair", "fp32")])
def test_threads_that_share_a_model_get_the_answers_of_one(
    shape: str, variant: str, answered_alone: Callable[[str, str, str], Any]
) -> None:
    classifier, pool, _ = answered_alone("bert", shape, variant)
    parts = [pool[start::8] * 3 for start in range(8)]
    expected = [classifier.predict(part) for part in parts]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            for ours, theirs in zip(threads.map(classifier.predict, parts), expected, strict=True):
                for a, b in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(a.logits, b.logits)
