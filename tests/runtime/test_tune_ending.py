"""How a tuning ends: in its time, at Ctrl-C, with a profile that can be written, or at once where an option is out of its range."""

import math
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import InputError
from runtime.profile import write

from .machines import Bench, speed


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
