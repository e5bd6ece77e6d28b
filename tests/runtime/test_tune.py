"""The strategy of `tune`, on machines whose speeds are known: who wins the comparison, which settings are kept, and what the goal decides."""

import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from runtime.engines import ENGINES
from runtime.entrant import SCORES, Entrant, Pass
from runtime.knobs import neighbours
from runtime.measure import Facts
from runtime.profile import Choice
from runtime.race import NOISE

from .machines import SPEEDS, THREADS, Bench, Runner, is_default, speed


def test_a_machine_with_nothing_to_gain_keeps_the_default(bench: Bench) -> None:
    """Every setting but the default's is slower; so is every variant but int8."""
    profile = bench.tune(bench.machine(flips={"int8-channel": 10}), seconds=600.0)
    assert is_default(profile.winner)
    assert profile.winner == profile.default
    assert profile.gain is None
    assert profile.conditions.complete
    knobs = {
        (m.choice.threads, m.choice.streams, m.choice.spinning, m.choice.max_batch_tokens) for m in profile.measurements
    }
    assert {
        (4, None, None, 512),
        (8, 4, None, 512),
        (8, None, False, 512),
        (8, None, None, 1024),
        (8, None, None, 256),
    } <= knobs


def test_the_climb_finds_the_best_of_a_smooth_hill(bench: Bench) -> None:
    """Two streams of four threads, asleep while they wait, and 2,048 tokens are best, five steps from the default."""

    def hill(choice: Choice) -> float:
        steps = abs(math.log2((choice.streams or choice.threads) / 2)) + abs(math.log2(choice.max_batch_tokens / 2048))
        steps += abs(math.log2(choice.threads / 8)) + (choice.spinning is not False)
        return SPEEDS[choice.variant] * 0.9**steps

    profile = bench.tune(bench.machine(speed=hill, flips={"int8-channel": 10}), seconds=600.0)
    best = profile.winner
    assert (best.threads, best.streams, best.spinning, best.max_batch_tokens) == (8, 2, False, 2048)
    assert profile.gain == pytest.approx(0.9**-5)
    assert profile.measurement(best).agreement == 1.0, "a change that wins is checked again"


@pytest.mark.parametrize(("better", "kept"), [(NOISE - 0.01, False), (NOISE + 0.01, True)])
def test_a_change_is_kept_when_it_wins_by_more_than_noise(better: float, kept: bool, bench: Bench) -> None:
    def machine_speed(choice: Choice) -> float:
        return speed(choice) if choice.spinning is None else SPEEDS[choice.variant] * better

    profile = bench.tune(bench.machine(speed=machine_speed, flips={"int8-channel": 10}), seconds=600.0)
    assert (profile.winner.spinning is False) == kept


def test_noise_alone_seldom_moves_anything(bench: Bench) -> None:
    """All settings are alike, each pass is off by up to 2 %: the default stays."""
    for seed in range(10):
        machine = bench.machine(
            speed=lambda choice: SPEEDS[choice.variant],
            noise=0.02,
            flips={"int8-channel": 10},
            random=Random(seed),
        )
        assert bench.tune(machine, seconds=120.0).winner == _default()


def _default() -> Choice:
    return Choice(engine="ort-cpu", variant="int8", threads=THREADS, streams=None, spinning=None, max_batch_tokens=512)


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_only_knobs_that_an_engine_has_are_turned(engine: str) -> None:
    best = Entrant(choice=replace(_default(), engine=engine))
    turned = [choice.spinning for choice in neighbours(best, goal="both", usable=THREADS)]
    assert (False in turned) == ENGINES[engine].spins


def test_an_engine_that_wants_no_batches_has_no_budget_to_turn() -> None:
    for num_lanes, turned in ((1, 2), (None, 0)):
        best = Entrant(choice=_default(), facts=Facts(num_lanes, True, 0.0))
        others = neighbours(best, goal="throughput", usable=1)
        assert sum(choice.max_batch_tokens != _default().max_batch_tokens for choice in others) == turned


def test_the_second_of_the_comparison_may_win_after_its_climb(bench: Bench) -> None:
    def machine_speed(choice: Choice) -> float:
        return 400.0 if (choice.variant, choice.max_batch_tokens) == ("int8", 1024) else speed(choice)

    profile = bench.tune(bench.machine(speed=machine_speed), seconds=600.0)
    assert (profile.winner.variant, profile.winner.max_batch_tokens) == ("int8", 1024)


def test_a_change_after_which_too_few_decisions_agree_is_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def machine_speed(choice: Choice) -> float:
        return 400.0 if choice.max_batch_tokens == 1024 else speed(choice)

    right = Runner.logits

    def other_batches(self: Runner, num_texts: int, *, max_batch_tokens: int) -> Any:
        rows = right(self, num_texts, max_batch_tokens=max_batch_tokens)
        return [-row for row in rows] if max_batch_tokens == 1024 else rows

    monkeypatch.setattr(Runner, "logits", other_batches)
    profile = bench.tune(bench.machine(speed=machine_speed), seconds=600.0)
    assert profile.winner.max_batch_tokens != 1024
    assert any("1,024 tokens a batch: out, agrees on 0.00%" in line for line in bench.said)


def test_those_who_fall_behind_are_closed_before_settings_are_turned(bench: Bench) -> None:
    machine = bench.machine()
    profile = bench.tune(machine)
    slow = [m for m in profile.measurements if m.choice.variant == "fp32"]
    assert [m.passes for m in slow] == [1]
    assert slow[0].out is None, "it may win, only it does not"
    assert machine.most_alive <= 3
    assert not machine.alive, "everything is closed at the end"


def test_the_goal_decides_who_wins(bench: Bench) -> None:
    """int8-channel answers many texts the fastest, int8 a text alone; fp32 is second in both, and the best in both together."""
    speeds = {"fp32": 190.0, "int8": 100.0, "int8-channel": 200.0}
    latencies = {"fp32": 0.0042, "int8": 0.004, "int8-channel": 0.02}
    winners = {}
    for goal in SCORES:
        rules = {"speed": lambda choice: speeds[choice.variant], "latency": lambda choice: latencies[choice.variant]}
        profile = bench.tune(bench.machine(**rules), goal=goal)
        assert profile.goal == goal
        winners[goal] = {name: choice.variant for name, choice in profile.winners.items()}
    expected = {"throughput": "int8-channel", "latency": "int8", "both": "fp32"}
    assert all(found == expected for found in winners.values()), winners


def test_a_text_alone_is_not_tuned_by_the_token_budget(bench: Bench) -> None:
    profile = bench.tune(bench.machine(), goal="latency", seconds=600.0)
    assert {m.choice.max_batch_tokens for m in profile.measurements} == {512}


def test_scores_rise_with_what_is_sought() -> None:
    slow, fast = Pass(texts_per_s=100, latency_ms=4), Pass(texts_per_s=200, latency_ms=4)
    assert SCORES["throughput"](fast) == 2 * SCORES["throughput"](slow)
    assert SCORES["latency"](fast) == SCORES["latency"](slow) == 250
    assert SCORES["both"](fast) == pytest.approx(math.sqrt(2) * SCORES["both"](slow))
