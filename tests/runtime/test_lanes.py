"""Which way a batch that comes alone is computed."""

from runtime.engines.lanes import Rivals


def answer(rivals: Rivals, num_tokens: int, *, alone_s: float, shared_s: float) -> bool:
    """Let a batch be computed; return whether by the shared session."""
    shared = rivals.prefer_shared(num_tokens)
    rivals.note(num_tokens, shared_s if shared else alone_s, shared=shared)
    return shared


def test_one_way_is_tried_after_the_other_and_the_faster_one_kept_for_each_size() -> None:
    rivals = Rivals()
    trials = [answer(rivals, 20, alone_s=1.0, shared_s=2.0) for _ in range(2 * Rivals.TRIALS)]
    assert trials == [False] * Rivals.TRIALS + [True] * Rivals.TRIALS
    assert not any(answer(rivals, 20, alone_s=1.0, shared_s=2.0) for _ in range(Rivals.KEPT_FOR))
    for _ in range(2 * Rivals.TRIALS):
        answer(rivals, 200, alone_s=10.0, shared_s=5.0)
    assert all(answer(rivals, 200, alone_s=10.0, shared_s=5.0) for _ in range(Rivals.KEPT_FOR))


def test_a_single_disturbed_trial_decides_nothing() -> None:
    rivals = Rivals()
    for number in range(2 * Rivals.TRIALS):
        answer(rivals, 20, alone_s=50.0 if number == 0 else 1.0, shared_s=2.0)
    assert not rivals.prefer_shared(20)


def test_what_was_found_out_is_tried_again_after_a_while() -> None:
    rivals = Rivals()
    for _ in range(2 * Rivals.TRIALS + Rivals.KEPT_FOR):
        answer(rivals, 20, alone_s=1.0, shared_s=2.0)
    again = [answer(rivals, 20, alone_s=3.0, shared_s=2.0) for _ in range(2 * Rivals.TRIALS)]
    assert again == [False] * Rivals.TRIALS + [True] * Rivals.TRIALS
    assert rivals.prefer_shared(20)
