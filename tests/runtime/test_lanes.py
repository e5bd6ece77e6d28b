"""Which way a batch that comes alone is computed."""

from runtime.engines.lanes import Rivals


def answer(rivals: Rivals, num_tokens: int, *, alone_s: float, shared_s: float) -> bool:
    """Let a batch be computed; return whether by the shared session."""
    shared = rivals.prefer_shared(num_tokens)
    rivals.note(num_tokens, shared_s if shared else alone_s, shared=shared)
    return shared


def settle(rivals: Rivals, num_tokens: int, *, alone_s: float, shared_s: float) -> list[bool]:
    """Answer until both ways were tried."""
    return [answer(rivals, num_tokens, alone_s=alone_s, shared_s=shared_s) for _ in range(2 * Rivals.TRIALS)]


def test_one_way_is_tried_after_the_other_and_the_faster_one_kept_for_each_size() -> None:
    rivals = Rivals()
    assert settle(rivals, 20, alone_s=1.0, shared_s=2.0) == [False] * Rivals.TRIALS + [True] * Rivals.TRIALS
    assert not any(answer(rivals, 20, alone_s=1.0, shared_s=2.0) for _ in range(Rivals.SOON))
    settle(rivals, 200, alone_s=10.0, shared_s=5.0)
    assert all(answer(rivals, 200, alone_s=10.0, shared_s=5.0) for _ in range(Rivals.SOON))


def test_a_single_disturbed_trial_decides_nothing() -> None:
    rivals = Rivals()
    for number in range(2 * Rivals.TRIALS):
        answer(rivals, 20, alone_s=50.0 if number == 0 else 1.0, shared_s=2.0)
    assert not rivals.prefer_shared(20)


def test_the_loser_is_tried_again_more_and_more_seldom() -> None:
    rivals, waits = Rivals(), []
    settle(rivals, 20, alone_s=1.0, shared_s=2.0)
    for _ in range(7):
        ways = iter(lambda: answer(rivals, 20, alone_s=1.0, shared_s=2.0), True)  # until the loser is tried
        waits.append(len(list(ways)))
        assert all(answer(rivals, 20, alone_s=1.0, shared_s=2.0) for _ in range(Rivals.TRIALS - 1))
    assert waits == [Rivals.SOON, 40, 80, 160, Rivals.SELDOM, Rivals.SELDOM, Rivals.SELDOM]


def test_a_machine_that_changes_its_mind_is_followed() -> None:
    rivals = Rivals()
    settle(rivals, 20, alone_s=1.0, shared_s=2.0)
    later = [answer(rivals, 20, alone_s=4.0, shared_s=2.0) for _ in range(Rivals.SOON + Rivals.TRIALS + Rivals.SOON)]
    assert later == [False] * Rivals.SOON + [True] * (Rivals.TRIALS + Rivals.SOON)
    assert not answer(rivals, 20, alone_s=4.0, shared_s=2.0), "a new verdict is soon doubted"


def test_a_batch_that_ends_after_the_way_has_changed_counts_for_no_trial() -> None:
    rivals = Rivals()
    late = rivals.prefer_shared(20)
    for _ in range(Rivals.TRIALS):
        answer(rivals, 20, alone_s=1.0, shared_s=2.0)
    rivals.note(20, 9.0, shared=late)
    assert [answer(rivals, 20, alone_s=1.0, shared_s=2.0) for _ in range(Rivals.TRIALS)] == [True] * Rivals.TRIALS
    assert not rivals.prefer_shared(20)
