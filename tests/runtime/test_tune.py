"""The strategy of `tune`, on machines whose speeds are known: time is counted, not spent."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime import candidates, host
from runtime.bundle import Manifest, Variant, read
from runtime.engines import ENGINES
from runtime.entrant import SCORES, Entrant, Options, Pass
from runtime.errors import EngineUnavailable, InputError
from runtime.knobs import neighbours
from runtime.measure import Facts
from runtime.model import open_head
from runtime.profile import Choice, Profile, write
from runtime.race import NOISE
from runtime.testing import FakeEngine, tiny_bundle
from runtime.threads import Threads
from runtime.tune import tune
from runtime.workload import Workload, from_lengths

THREADS = 8
# What the default settings of a variant reach alone.
SPEEDS = {"fp32": 100.0, "int8": 200.0, "int8-channel": 240.0}


def speed(choice: Choice) -> float:
    """Give a machine's texts/s; this one has no best setting but the default."""
    return SPEEDS[choice.variant] * (1.0 if _is_default(choice) else 0.9)


def _is_default(choice: Choice) -> bool:
    return (choice.threads, choice.streams, choice.spinning, choice.max_batch_tokens) == (THREADS, None, None, 512)


@dataclass
class Machine:
    """A machine on which a text takes as long as a rule says; its clock stands still but for that."""

    workload: Workload
    speed: Callable[[Choice], float] = speed
    latency: Callable[[Choice], float] = lambda choice: 1 / speed(choice)
    noise: float = 0.0
    flips: dict[str, int] = field(default_factory=dict)  # by variant: of how many texts one is decided otherwise
    breaks: dict[str, str] = field(default_factory=dict)  # by variant: "open", "logits" or "seconds"
    batch_dependent: tuple[str, ...] = ()
    golden_errors: dict[str, float] = field(default_factory=dict)  # by engine
    now: float = 0.0
    interrupt_at: float = math.inf
    opened: list[Choice] = field(default_factory=list)
    alive: set[int] = field(default_factory=set)
    most_alive: int = 0
    random: Random = field(default_factory=lambda: Random(0))

    def open(self, choice: Choice) -> "Runner":
        self.spend(0.5)
        self.break_off(choice, "open")
        self.opened.append(choice)
        return Runner(self, choice)

    def spend(self, seconds: float) -> float:
        seconds *= 1 + self.noise * self.random.uniform(-1, 1)
        self.now += seconds
        if self.now >= self.interrupt_at:
            self.interrupt_at = math.inf
            raise KeyboardInterrupt
        return seconds

    def break_off(self, choice: Choice, what: str) -> None:
        if self.breaks.get(choice.variant) == what:
            raise EngineUnavailable(f"cannot {what}")


class Runner:
    """What an engine on such a machine does."""

    def __init__(self, machine: Machine, choice: Choice) -> None:
        self.machine, self.choice = machine, choice
        error = machine.golden_errors.get(choice.engine, 1e-6 if choice.variant == "fp32" else 0.1)
        self.facts = Facts(choice.streams or choice.threads, choice.variant not in machine.batch_dependent, error)
        machine.alive.add(id(self))
        machine.most_alive = max(machine.most_alive, len(machine.alive))

    def logits(self, num_texts: int, *, max_batch_tokens: int) -> list[npt.NDArray[np.float32]]:
        self.machine.break_off(self.choice, "logits")
        choice = replace(self.choice, max_batch_tokens=max_batch_tokens)
        self.machine.spend(num_texts / self.machine.speed(choice))
        batch = self.machine.workload.encoded.batch
        rows = list(FakeEngine(num_labels=2).run([batch])[0][:num_texts])
        every = self.machine.flips.get(self.choice.variant)
        return [-row if every and index % every == 0 else row for index, row in enumerate(rows)]

    def seconds(self, num_texts: int, *, max_batch_tokens: int) -> float:
        self.machine.break_off(self.choice, "seconds")
        return self.machine.spend(
            num_texts / self.machine.speed(replace(self.choice, max_batch_tokens=max_batch_tokens))
        )

    def seconds_alone(self, *, max_batch_tokens: int) -> float:
        return self.machine.spend(self.machine.latency(replace(self.choice, max_batch_tokens=max_batch_tokens)))

    def close(self) -> None:
        self.machine.alive.discard(id(self))


@dataclass
class Bench:
    """A bundle of three variants, and what was said of it."""

    bundle: Path
    manifest: Manifest
    workload: Workload
    said: list[str] = field(default_factory=list)

    def tune(self, machine: Machine, **options: Any) -> Profile:
        usual = {"goal": "throughput", "seconds": 60.0, "floor": 0.99, "batch_invariant": False}
        return tune(
            self.bundle,
            self.manifest,
            machine.workload,
            head=open_head(self.bundle, self.manifest),
            options=Options(**{**usual, **options}),
            say=self.said.append,
            open_runner=machine.open,
            now=lambda: machine.now,
        )

    def machine(self, **values: Any) -> Machine:
        return Machine(values.pop("workload", self.workload), **values)


def _variant(name: str, *, passed: bool = True) -> Variant:
    precision = name.partition("-")[0]
    return Variant(
        file="onnx/model.onnx",
        precision=precision,
        inputs=("input_ids",),
        session_options={},
        disabled_optimizers=(),
        batch_invariant=True,
        max_error=0.0,
        passed=passed,
    )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Give a bundle to tune on a machine of eight threads that has onnxruntime for the CPU alone."""
    monkeypatch.setattr(host, "usable_threads", lambda: Threads(THREADS, "test"))
    missing = {name: None if name == "ort-cpu" else "it is not installed" for name in ENGINES}
    monkeypatch.setattr(candidates, "why_missing", missing.get)
    bundle = tiny_bundle(tmp_path / "bundle")
    manifest = replace(read(bundle), variants={name: _variant(name) for name in SPEEDS})
    return Bench(bundle, manifest, from_lengths("8,16", manifest, encoder=open_head(bundle, manifest).encoder))


def outs(profile: Profile) -> dict[str, str | None]:
    return {m.choice.variant: m.out for m in profile.measurements}


# check: who may win


def test_the_fastest_that_decides_as_fp32_wins(bench: Bench) -> None:
    profile = bench.tune(bench.machine(flips={"int8-channel": 50, "int8": 200}))
    assert profile.winner.variant == "int8"
    assert outs(profile)["int8-channel"] == "agrees on 98.00%, and --floor is 99.00%"
    assert profile.measurement(profile.winner).agreement == pytest.approx(0.995, abs=0.002)
    assert any("out, agrees on 98.00%" in line for line in bench.said)


def test_a_lower_floor_lets_the_faster_one_win(bench: Bench) -> None:
    profile = bench.tune(bench.machine(flips={"int8-channel": 50}), floor=0.97)
    assert profile.winner.variant == "int8-channel"
    assert profile.gain == pytest.approx(1.2)


def test_an_engine_that_is_not_here_is_told_and_not_measured(bench: Bench) -> None:
    profile = bench.tune(bench.machine())
    assert {m.choice.engine for m in profile.measurements} == {"ort-cpu"}
    assert any("not measured: ort-cuda: it is not installed" in line for line in bench.said)


def test_without_any_engine_all_reasons_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "why_missing", lambda name: "it is not installed")
    with pytest.raises(EngineUnavailable, match=r"no engine here can run this bundle:\n  .*: it is not installed"):
        bench.tune(bench.machine())


def test_an_engine_that_computes_no_variant_of_the_bundle_is_told(bench: Bench) -> None:
    bench.manifest = replace(bench.manifest, variants={"int3": _variant("int3")})
    with pytest.raises(EngineUnavailable, match=r"ort-cpu: it computes in .*, and no variant of the bundle is"):
        bench.tune(bench.machine())


def test_every_engine_that_is_here_is_measured_with_every_variant_it_computes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "why_missing", lambda name: None)
    profile = bench.tune(bench.machine())
    expected = {
        (name, variant)
        for name, spec in ENGINES.items()
        for variant in SPEEDS
        if _variant(variant).precision in spec.precisions
    }
    assert {(m.choice.engine, m.choice.variant) for m in profile.measurements} == expected


def test_the_reference_is_the_fp32_that_is_nearest_to_the_golden_logits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "why_missing", lambda name: None)
    errors = dict.fromkeys(ENGINES, 0.001) | {"ort-cpu": 1e-6}
    assert bench.tune(bench.machine(golden_errors=errors)).conditions.reference.startswith("fp32 on ort-cpu")
    errors = dict.fromkeys(ENGINES, 0.001) | {"ort-cuda": 1e-7, "ort-cpu": math.nan}
    assert bench.tune(bench.machine(golden_errors=errors)).conditions.reference.startswith("fp32 on ort-cuda")


def test_a_reference_that_breaks_off_is_followed_by_the_next(bench: Bench) -> None:
    bench.manifest = replace(bench.manifest, variants={**bench.manifest.variants, "fp32-2": _variant("fp32-2")})
    machine = bench.machine(
        breaks={"fp32": "logits"}, speed=lambda choice: SPEEDS.get(choice.variant, 50.0), latency=lambda _: 0.01
    )
    profile = bench.tune(machine)
    assert profile.conditions.reference.startswith("fp32-2 on ort-cpu")
    assert outs(profile)["fp32"] == "cannot logits"


def test_without_fp32_the_most_exact_variant_is_the_reference(bench: Bench) -> None:
    bench.manifest = replace(bench.manifest, variants={"int8": _variant("int8")})
    profile = bench.tune(bench.machine())
    assert profile.conditions.reference.startswith("int8 on ort-cpu")
    assert profile.winner.variant == "int8"


@pytest.mark.parametrize(
    ("own", "num_texts", "out"),
    [
        (False, 512, r"it did not pass its accuracy gate at export; 200 texts of yours \(--data\) may let it in, none"),
        (True, 199, r"it did not pass .*; 200 texts of yours \(--data\) may let it in, 199 were compared"),
        (True, 200, None),
    ],
)
def test_a_variant_that_did_not_pass_at_export_needs_texts_of_the_users(
    own: bool, num_texts: int, out: str | None, bench: Bench
) -> None:
    bench.manifest = replace(
        bench.manifest, variants={**bench.manifest.variants, "int8-channel": _variant("int8-channel", passed=False)}
    )
    batch = bench.workload.encoded.batch
    workload = bench.workload._replace(
        own=own,
        texts=bench.workload.texts[:num_texts],
        encoded=bench.workload.encoded._replace(batch=batch.take(np.arange(num_texts))),
    )
    machine = bench.machine(workload=workload)
    profile = bench.tune(machine)
    if out is None:
        assert profile.winner.variant == "int8-channel"
    else:
        assert profile.winner.variant == "int8"
        assert "int8-channel" not in {choice.variant for choice in machine.opened}, "it is not even opened"
        assert re.match(out, str(outs(profile)["int8-channel"]))


def test_batch_invariant_admits_no_other(bench: Bench) -> None:
    profile = bench.tune(bench.machine(batch_dependent=("int8-channel",)), batch_invariant=True)
    assert profile.winner.variant == "int8"
    assert outs(profile)["int8-channel"] == "its answers depend on the batch, and --batch-invariant was asked for"
    assert profile.conditions.batch_invariant


def test_without_a_batch_invariant_engine_all_are_named(bench: Bench) -> None:
    with pytest.raises(InputError) as caught:
        bench.tune(bench.machine(batch_dependent=tuple(SPEEDS)), batch_invariant=True)
    for variant in SPEEDS:
        assert f"{variant} on ort-cpu, 8 threads, 512 tokens a batch: its answers depend" in str(caught.value)
    assert str(caught.value).endswith("Lower --floor, leave out --batch-invariant, or export other variants.")


def test_an_engine_that_breaks_off_is_out_and_the_others_go_on(bench: Bench) -> None:
    for where in ("open", "logits", "seconds"):
        profile = bench.tune(bench.machine(breaks={"int8-channel": where}))
        assert profile.winner.variant == "int8", where
        assert outs(profile)["int8-channel"] == f"cannot {where}"


def test_where_no_engine_opens_all_reasons_are_told(bench: Bench) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"no engine here can answer as a reference:\n  fp32 on .*: cannot open"
    ):
        bench.tune(bench.machine(breaks=dict.fromkeys(SPEEDS, "open")))


def test_answers_that_are_no_numbers_are_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Runner.logits

    def wrong(self: Runner, num_texts: int, *, max_batch_tokens: int) -> Any:
        rows = right(self, num_texts, max_batch_tokens=max_batch_tokens)
        return [row * math.nan for row in rows] if self.choice.variant == "int8" else rows

    monkeypatch.setattr(Runner, "logits", wrong)
    assert outs(bench.tune(bench.machine()))["int8"] == "its answers are no numbers (NaN or infinite)"


# compare, refine, confirm


def test_a_machine_with_nothing_to_gain_keeps_the_default(bench: Bench) -> None:
    """Every setting but the default's is slower; so is every variant but int8."""
    profile = bench.tune(bench.machine(flips={"int8-channel": 10}), seconds=600.0)
    assert _is_default(profile.winner)
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


# The end of the time, and Ctrl-C


@pytest.mark.parametrize("seconds", [15.0, 30.0, 60.0, 300.0])
def test_it_takes_the_time_it_was_given_and_not_much_more(seconds: float, bench: Bench) -> None:
    machine = bench.machine(speed=lambda choice: speed(choice) / (1 + (choice.max_batch_tokens == 1024)))
    bench.tune(machine, seconds=seconds)
    assert machine.now <= seconds * 1.1 + 1


def test_a_moment_is_enough_to_measure_everyone_once(bench: Bench) -> None:
    profile = bench.tune(bench.machine(), seconds=0.1)
    assert profile.winner.variant == "int8-channel"
    assert all(m.passes == 1 for m in profile.measurements)
    assert not profile.conditions.complete
    assert profile.gain is None, "there was no time to measure it"


def test_ctrl_c_uses_what_was_measured_so_far(bench: Bench) -> None:
    profile = bench.tune(bench.machine(interrupt_at=30.0), seconds=60.0)
    assert profile.winner.variant == "int8-channel"
    assert not profile.conditions.complete
    assert any("interrupted: what was measured so far decides" in line for line in bench.said)


def test_ctrl_c_before_everyone_was_timed_once_is_an_error(bench: Bench) -> None:
    machine = bench.machine(interrupt_at=3.0)
    with pytest.raises(InputError, match="interrupted before every candidate was timed once; nothing is written"):
        bench.tune(machine)
    assert not machine.alive


def test_every_profile_that_is_made_can_be_written(bench: Bench, tmp_path: Path) -> None:
    """Whatever happened on the way, the reader takes it."""
    happenings: list[dict[str, Any]] = [
        {},
        {"interrupt_at": 25.0},
        {"breaks": {"fp32": "seconds"}},
        {"golden_errors": {"ort-cuda": math.nan}},
        {"noise": 0.3},
        {"flips": {"int8": 3}},
    ]
    for number, happening in enumerate(happenings):
        write(tmp_path / f"{number}.json", bench.tune(bench.machine(**happening)))


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"goal": "speed"}, "--goal must be one of throughput, latency, both. Got 'speed' instead"),
        ({"seconds": 0.0}, "--seconds must be a number above 0. Got 0.0 instead"),
        ({"seconds": math.nan}, "--seconds must be a number above 0. Got nan instead"),
        ({"floor": 1.5}, "--floor must be between 0 and 1. Got 1.5 instead"),
        ({"floor": math.nan}, "--floor must be between 0 and 1. Got nan instead"),
    ],
)
def test_an_option_out_of_its_range_is_refused(option: dict[str, Any], told: str, bench: Bench) -> None:
    with pytest.raises(InputError) as caught:
        bench.tune(bench.machine(), **option)
    assert str(caught.value) == told + "."
