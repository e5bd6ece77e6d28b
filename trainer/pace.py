"""How fast training goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

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
