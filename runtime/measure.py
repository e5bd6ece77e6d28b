"""An engine in a process of its own, for `tune`: both ends of the pipe.

    tune                                 worker
    bundle, choice, texts, alone   ──►   opens the engine; answers the golden texts
    "logits", number of texts …    ──►   logits of the first of them
    "seconds", number of texts …   ──►   how long they take, from text to answer
    "alone"                        ──►   how long a text takes that comes alone

Processes of their own, because several onnxruntime sessions in one slow each other (docs/LOG.md), because some libraries keep the first settings they
are given, and because one that breaks off takes nothing with it. One that waits for its turn sleeps.
"""

import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .bundle import read
from .check import golden_differences
from .errors import EngineUnavailable, Error
from .model import Classifier, open_classifier
from .profile import Choice
from .tasks import Floats
from .workload import Workload

WAKE_TEXTS, WAKE_ALONE = (
    8,
    3,
)  # answered untimed before each pass: the worker has slept, its threads and caches are cold
SETTLE_PASSES, SETTLE_S = (
    10,
    1.0,
)  # over the texts that come alone, once: an engine may try several ways before it keeps one


class Facts(NamedTuple):
    """What an open engine says of itself.

    Attributes:
        num_lanes: see `Engine`.
        batch_invariant: see `Engine`.
        golden_error: the largest difference from the golden logits.
    """

    num_lanes: int | None
    batch_invariant: bool
    golden_error: float


class Worker:
    """The near end: a process that has opened one engine."""

    def __init__(self, bundle: Path, choice: Choice, workload: Workload) -> None:
        """Start the process and open the engine.

        Raises:
            EngineUnavailable: the engine cannot be opened, or breaks off.
        """
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the near end alone
        )
        try:
            self._send((bundle, choice, workload.texts, workload.alone))
            self.facts: Facts = self._receive()
        except BaseException:
            self.close()
            raise

    def logits(self, num_texts: int, *, max_batch_tokens: int) -> list[Floats]:
        """Compute the logits of the first texts.

        Raises:
            EngineUnavailable: it cannot, or breaks off.
        """
        self._send(("logits", num_texts, max_batch_tokens))
        logits: list[Floats] = self._receive()
        return logits

    def seconds(self, num_texts: int, *, max_batch_tokens: int) -> float:
        """Time the first texts, from text to answer.

        Raises:
            EngineUnavailable: it cannot, or breaks off.
        """
        self._send(("seconds", num_texts, max_batch_tokens))
        return float(self._receive())

    def seconds_alone(self, *, max_batch_tokens: int) -> float:
        """Time the texts that come alone; give the mean.

        Raises:
            EngineUnavailable: it cannot, or breaks off.
        """
        self._send(("alone", 0, max_batch_tokens))
        return float(self._receive())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr] # both were asked for

    def _send(self, request: tuple[Any, ...]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; `_receive` says so
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        try:
            done, value = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as exc:
            raise EngineUnavailable(f"its process broke off with exit code {self._process.wait()}") from exc
        if not done:
            raise EngineUnavailable(value)
        return value


def serve() -> None:
    """Be the far end: open an engine, then answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the replies
    served: list[_Served] = []
    with suppress(EOFError):
        while True:
            request = pickle.load(requests)
            try:
                reply = (True, _reply(served, request))
            except Error as exc:
                reply = (False, str(exc))
            except Exception as exc:  # whatever a library raises is this candidate's end, not the search's
                traceback.print_exc()
                reply = (False, f"{type(exc).__name__}: {exc}")
            pickle.dump(reply, replies)
            replies.flush()


class _Served(NamedTuple):
    """What the far end holds."""

    classifier: Classifier
    texts: list[Any]
    alone: list[Any]


def _reply(served: list[_Served], request: tuple[Any, ...]) -> Any:
    if not served:
        served.append(_open(*request))
        classifier, engine = served[0].classifier, served[0].classifier.opened.engine
        return Facts(engine.num_lanes, engine.batch_invariant, float(np.max(golden_differences(classifier))))
    name, num_texts, max_batch_tokens = request
    classifier = replace(served[0].classifier, max_batch_tokens=max_batch_tokens)
    return REPLIES[name](classifier, served[0].texts[:num_texts], served[0].alone)


def _open(bundle: Path, choice: Choice, texts: list[Any], alone: list[int]) -> _Served:
    classifier = open_classifier(
        bundle, read(bundle), engine=choice.engine, variant=choice.variant, settings=choice.settings
    )
    served = _Served(classifier, texts, [texts[index] for index in alone])
    start, passes = time.perf_counter(), 0
    while passes < SETTLE_PASSES and time.perf_counter() - start < SETTLE_S:
        _seconds_alone(*served)
        passes += 1
    return served


def _logits(classifier: Classifier, texts: list[Any], alone: list[Any]) -> list[Floats]:
    return classifier.logits(classifier.encode(texts))


def _seconds(classifier: Classifier, texts: list[Any], alone: list[Any]) -> float:
    classifier.predict(texts[:WAKE_TEXTS])
    start = time.perf_counter()
    classifier.predict(texts)
    return time.perf_counter() - start


def _seconds_alone(classifier: Classifier, texts: list[Any], alone: list[Any]) -> float:
    for text in alone[:WAKE_ALONE]:
        classifier.predict(text)
    start = time.perf_counter()
    for text in alone:
        classifier.predict(text)
    return (time.perf_counter() - start) / len(alone)


REPLIES: dict[str, Callable[[Classifier, list[Any], list[Any]], Any]] = {
    "logits": _logits,
    "seconds": _seconds,
    "alone": _seconds_alone,
}
