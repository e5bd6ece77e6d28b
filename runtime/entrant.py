"""A candidate of `tune`: what is sought, what it is measured with, and what is known of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple, Protocol

from .errors import InputError
from .measure import Facts
from .profile import Choice, Measurement
from .tasks import Floats


class Runner(Protocol):
    """What a candidate is measured with: a `Worker`, or a test's own."""

    facts: Facts

    def logits(self, num_texts: int, *, max_batch_tokens: int) -> list[Floats]:
        """Compute the logits of the first texts."""

    def seconds(self, num_texts: int, *, max_batch_tokens: int) -> float:
        """Time the first texts, from text to answer."""

    def seconds_alone(self, *, max_batch_tokens: int) -> float:
        """Time the texts that come alone; give the mean."""

    def close(self) -> None:
        """Free what it holds."""


class Pass(NamedTuple):
    """Texts a second, all together, and milliseconds of one that comes alone."""

    texts_per_s: float
    latency_ms: float


# What is sought: a figure of a pass, higher being better.
SCORES: dict[str, Callable[[Pass], float]] = {
    "throughput": lambda ran: ran.texts_per_s,
    "latency": lambda ran: 1000 / ran.latency_ms,
    "both": lambda ran: math.sqrt(ran.texts_per_s * 1000 / ran.latency_ms),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is sought, and for how long.

    Attributes:
        goal: a key of SCORES.
        seconds: how long it may take. Opening every candidate and one round of all are done in any case.
        floor: the least agreement with the reference.
        batch_invariant: whether only engines may win that give a text the same answer to the bit alone and in any batch.
    """

    goal: str
    seconds: float
    floor: float
    batch_invariant: bool

    def validate(self) -> None:
        """Check what the types do not say.

        Raises:
            InputError: no such goal, or a number out of its range.
        """
        if self.goal not in SCORES:
            raise InputError(f"--goal must be one of {', '.join(SCORES)}. Got {self.goal!r} instead.")
        if not 0 < self.seconds < math.inf:
            raise InputError(f"--seconds must be a number above 0. Got {self.seconds} instead.")
        if not 0 <= self.floor <= 1:
            raise InputError(f"--floor must be between 0 and 1. Got {self.floor} instead.")


@dataclass(kw_only=True)
class Entrant:
    """A candidate and what is known of it.

    Attributes:
        choice: what it is.
        facts: what its engine says; None where it was not opened.
        agreement: as in `Measurement`.
        quality: as in `Measurement`.
        rough: texts/s while it was checked, in its first and only pass so far.
        passes: those that count.
        out: why it may not win.
    """

    choice: Choice
    facts: Facts | None = None
    agreement: float | None = None
    quality: float | None = None
    rough: float | None = None
    passes: list[Pass] = field(default_factory=list)
    out: str | None = None

    @property
    def typical(self) -> Pass:
        """The medians over its passes."""
        return Pass(*(median(figures) for figures in zip(*self.passes, strict=True)))

    def measurement(self) -> Measurement:
        """Give what a profile keeps."""
        return Measurement(
            choice=self.choice,
            texts_per_s=self.typical.texts_per_s if self.passes else self.rough,
            latency_ms=self.typical.latency_ms if self.passes else None,
            agreement=self.agreement,
            quality=self.quality,
            golden_error=self.facts.golden_error if self.facts and math.isfinite(self.facts.golden_error) else None,
            passes=len(self.passes),
            out=self.out,
        )
