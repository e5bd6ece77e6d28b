"""Machines whose speeds are known, and a bundle to tune on them: time is counted, not spent."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.bundle import Manifest, Variant
from runtime.entrant import Options
from runtime.errors import EngineUnavailable
from runtime.measure import Facts
from runtime.model import open_head
from runtime.profile import Choice, Profile
from runtime.testing import FakeEngine
from runtime.tune import tune
from runtime.workload import Workload

THREADS = 8
# What the default settings of a variant reach alone.
SPEEDS = {"fp32": 100.0, "int8": 200.0, "int8-channel": 240.0}


def speed(choice: Choice) -> float:
    """Give a machine's texts/s; this one has no best setting but the default."""
    return SPEEDS[choice.variant] * (1.0 if is_default(choice) else 0.9)


def is_default(choice: Choice) -> bool:
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


def make_variant(name: str, *, passed: bool = True) -> Variant:
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
