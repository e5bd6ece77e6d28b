"""How the onnxruntime engine uses several threads: always with the same answers to the bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.engines.ort import _Rivals


@pytest.mark.parametrize("shape", ["single-label", "token"])
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_any_number_of_threads_gives_the_same_logits_to_the_bit(
    shape: str, variant: str, make_bundle: Callable[[str, str], Path], texts: list[str]
) -> None:
    bundle = make_bundle("bert", shape)
    one, three = (runtime.load(bundle, variant=variant, engine="ort-cpu", threads=number) for number in (1, 3))
    short = [text for text in texts if len(text) < 60]
    many = zip(one.predict(short[:60]), three.predict(short[:60]), strict=True)
    # Alone: the first of a size go to one session, the next to the other.
    alone = [(one.predict(short[0]), three.predict(short[0])) for _ in range(2 * 2 * _Rivals.TRIALS + 4)]
    for expected, actual in [*many, *alone]:
        np.testing.assert_array_equal(expected.logits, actual.logits)


def answer(rivals: _Rivals, num_tokens: int, *, alone_s: float, shared_s: float) -> bool:
    """Let a batch be computed; return whether by the shared session."""
    shared = rivals.prefer_shared(num_tokens)
    rivals.note(num_tokens, shared_s if shared else alone_s, shared=shared)
    return shared


def test_one_way_is_tried_after_the_other_and_the_faster_one_kept_for_each_size() -> None:
    rivals = _Rivals()
    trials = [answer(rivals, 20, alone_s=1.0, shared_s=2.0) for _ in range(2 * _Rivals.TRIALS)]
    assert trials == [False] * _Rivals.TRIALS + [True] * _Rivals.TRIALS
    assert not any(answer(rivals, 20, alone_s=1.0, shared_s=2.0) for _ in range(_Rivals.KEPT_FOR))
    for _ in range(2 * _Rivals.TRIALS):
        answer(rivals, 200, alone_s=10.0, shared_s=5.0)
    assert all(answer(rivals, 200, alone_s=10.0, shared_s=5.0) for _ in range(_Rivals.KEPT_FOR))


def test_a_single_disturbed_trial_decides_nothing() -> None:
    rivals = _Rivals()
    for number in range(2 * _Rivals.TRIALS):
        answer(rivals, 20, alone_s=50.0 if number == 0 else 1.0, shared_s=2.0)
    assert not rivals.prefer_shared(20)


def test_what_was_found_out_is_tried_again_after_a_while() -> None:
    rivals = _Rivals()
    for _ in range(2 * _Rivals.TRIALS + _Rivals.KEPT_FOR):
        answer(rivals, 20, alone_s=1.0, shared_s=2.0)
    again = [answer(rivals, 20, alone_s=3.0, shared_s=2.0) for _ in range(2 * _Rivals.TRIALS)]
    assert again == [False] * _Rivals.TRIALS + [True] * _Rivals.TRIALS
    assert rivals.prefer_shared(20)
