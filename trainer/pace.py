"""How fast training goes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Pace:
    """Texts and tokens a second, evaluations and saving left out."""

    def __init__(self) -> None:
        self._begin()

    def count(self, lengths: npt.NDArray[np.int32]) -> None:
        """Count a step's texts, given their tokens."""
        self._num_texts += len(lengths)
        self._num_tokens += int(lengths.sum())

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
        self._begin()
        return lap

    def _begin(self) -> None:
        self._num_texts = self._num_tokens = 0
        self._since, self._paused_s = time.perf_counter(), 0.0


class Speed(NamedTuple):
    """How fast a run trained as a whole: seconds, and what was trained on in each."""

    seconds: float
    texts_per_s: float
    tokens_per_s: float


def overall(history: Sequence[dict[str, Any]]) -> Speed | None:
    """Sum up a run's laps, among the lines of its history; None where it has none."""
    laps = [line for line in history if "seconds" in line]
    seconds = sum(lap["seconds"] for lap in laps)
    if not seconds:
        return None
    texts, tokens = (
        sum(lap[name] * lap["seconds"] for lap in laps) / seconds for name in ("texts_per_s", "tokens_per_s")
    )
    return Speed(seconds, texts, tokens)
