"""How fast training goes, and how fast it could."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .peak import Ceiling


class Pace:
    """Texts and tokens a second, evaluations and saving left out.

    Args:
        ceiling: what FLOPs are measured against; None where they are not counted.
    """

    def __init__(self, ceiling: Ceiling | None = None) -> None:
        self._ceiling = ceiling
        self._begin()

    def count(self, lengths: npt.NDArray[np.int32]) -> None:
        """Count a step's texts, given their tokens."""
        self._num_texts += len(lengths)
        self._num_tokens += int(lengths.sum())
        self._flops += self._ceiling.flops(lengths) if self._ceiling else 0.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave out what happens within."""
        start = time.perf_counter()
        yield
        self._paused_s += time.perf_counter() - start

    def lap(self) -> dict[str, float]:
        """Give the seconds and the speed since the last lap."""
        seconds = time.perf_counter() - self._since - self._paused_s
        lap = {
            "seconds": seconds,
            "texts_per_s": self._num_texts / seconds,
            "tokens_per_s": self._num_tokens / seconds,
        }
        if self._ceiling:
            lap |= {"flops_per_s": self._flops / seconds, "peak_flops_per_s": self._ceiling.peak_flops_per_s}
        self._begin()
        return lap

    def _begin(self) -> None:
        self._num_texts, self._num_tokens, self._flops = 0, 0, 0.0
        self._since, self._paused_s = time.perf_counter(), 0.0


class Speed(NamedTuple):
    """How fast a run trained as a whole.

    Attributes:
        seconds: how long.
        texts_per_s: texts trained on in each.
        tokens_per_s: tokens trained on in each.
        flops_per_s: what the model takes for them; None where FLOPs are not counted.
        peak_flops_per_s: what the device's matrix products reach; None where it was not measured.
    """

    seconds: float
    texts_per_s: float
    tokens_per_s: float
    flops_per_s: float | None = None
    peak_flops_per_s: float | None = None


def overall(history: Sequence[dict[str, Any]]) -> Speed | None:
    """Sum up a run's laps, among the lines of its history; None where it has none."""
    laps = [line for line in history if "seconds" in line]
    seconds = sum(lap["seconds"] for lap in laps)
    if not seconds:
        return None
    names = [name for name in Speed._fields[1:] if all(name in lap for lap in laps)]
    return Speed(seconds, **{name: sum(lap[name] * lap["seconds"] for lap in laps) / seconds for name in names})


def share_of_peak(speed: Speed | None, *, precision: str | None = None) -> str | None:
    """Say how near a run came to what the device can do; None where that is not known.

    Args:
        speed: of the run.
        precision: the arithmetic, to be named.
    """
    if speed is None or speed.flops_per_s is None or speed.peak_flops_per_s is None:
        return None
    arithmetic = f" in {precision}" if precision else ""
    return (
        f"{speed.flops_per_s / speed.peak_flops_per_s:.0%} of the {speed.peak_flops_per_s / 1e9:,.0f} GFLOP/s "
        f"that matrix products reach here{arithmetic}"
    )
