"""How engines on a CPU use several threads, in one of two ways with the same answers:

many batches    as many at once as there are lanes, each with a lane's threads. By default a lane has one: nobody waits for anybody
one batch       by a model in which all threads share every product, or by one lane, whichever is faster: threads that share meet some two hundred
                times a pass, which on some machines costs a short text more than they gain (docs/LOG.md). `Rivals` measures it
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from statistics import median
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..encode import Batch

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Compute = Callable[[Batch], npt.NDArray[np.float32]]  # one batch, as `Engine.run`


class Lanes:
    """Compute the batches of a call. `run` may be called from several threads at once."""

    def __init__(self, narrow: Compute, open_wide: Callable[[], Compute], *, num_lanes: int) -> None:
        """Take the ways to compute.

        Args:
            narrow: computes with one lane's threads; it is called from as many threads at once as there are lanes, and more where several call `run`.
            open_wide: opens what computes with all threads; called at most once, when it is first tried.
            num_lanes: how many batches are computed at once.
        """
        self.num_lanes, self._narrow, self._open_wide = num_lanes, narrow, open_wide
        self._lock, self._rivals = Lock(), Rivals()
        self._wide: Compute | None = None
        self._pool: ThreadPoolExecutor | None = None

    def run(self, batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        """Compute batches, as `Engine.run`."""
        if self.num_lanes == 1:
            return [self._narrow(batch) for batch in batches]
        if len(batches) == 1:
            return [self._compute_alone(batches[0])]
        return list(self._workers().map(self._narrow, batches))

    def _compute_alone(self, batch: Batch) -> npt.NDArray[np.float32]:
        num_tokens = len(batch.lengths) * int(batch.lengths.max())
        shared = self._rivals.prefer_shared(num_tokens)
        compute = self._shared() if shared else self._narrow
        start = time.perf_counter()
        logits = compute(batch)
        self._rivals.note(num_tokens, time.perf_counter() - start, shared=shared)
        return logits

    def _shared(self) -> Compute:
        with self._lock:
            self._wide = self._wide or self._open_wide()
        return self._wide

    def _workers(self) -> "ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            self._pool = self._pool or ThreadPoolExecutor(self.num_lanes, thread_name_prefix="portabert")
        return self._pool


class Rivals:
    """Which way answers a batch alone the fastest, for each size (a power of two of tokens).

    The way in use is timed all along, and the other one is tried now and then: often at first, more and more seldom while the verdict stays the same. For a machine
    may give a second thread to one text and, a minute later, half of one (docs/LOG.md). Tried one after the other, not in turn: threads that wait for their next
    batch fall asleep while the others compute.
    """

    TRIALS, SOON, SELDOM = 5, 20, 320  # batches

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lock = Lock()
        self._contests: dict[int, _Contest] = defaultdict(_Contest)  # by size

    def prefer_shared(self, num_tokens: int) -> bool:
        """Say whether all threads should share the next batch of a size."""
        with self._lock:
            return self._contests[num_tokens.bit_length()].shared

    def note(self, num_tokens: int, seconds: float, *, shared: bool) -> None:
        """Take the time of a batch and the way it was computed."""
        with self._lock:
            self._contests[num_tokens.bit_length()].note(seconds / num_tokens, shared=shared)


class _Contest:
    """The two ways at one size."""

    def __init__(self) -> None:
        self.shared = False  # the way in use
        self._trying, self._left = False, Rivals.TRIALS
        self._kept_for = Rivals.SOON // 2  # doubled by the first verdict
        self._seconds = {way: deque[float](maxlen=Rivals.TRIALS) for way in (False, True)}  # a token, of the latest

    def note(self, seconds: float, *, shared: bool) -> None:
        self._seconds[shared].append(seconds)
        if shared != self.shared:  # begun before the way was changed
            return
        self._left -= 1
        if self._left:
            return
        if not self._trying:
            self._trying, self.shared, self._left = True, not self.shared, Rivals.TRIALS
            self._seconds[self.shared].clear()
            return
        best = min((False, True), key=lambda way: median(self._seconds[way]))
        stays = best != self.shared
        self._kept_for = min(2 * self._kept_for, Rivals.SELDOM) if stays else Rivals.SOON
        self._trying, self.shared, self._left = False, best, self._kept_for


def describe_threads(threads: int, streams: int) -> str:
    """Give threads and streams for people; a stream a thread goes without saying."""
    parts = [(threads, "thread"), *([(streams, "stream")] if streams != threads else [])]
    return " in ".join(f"{number} {what}" + ("" if number == 1 else "s") for number, what in parts)
