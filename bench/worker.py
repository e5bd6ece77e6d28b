"""Peers in processes of their own, computing in turn: both ends of the pipe, and the rounds.

    driver                                   worker: python -m bench.worker, one a peer
    {"do": "open", "peer": …, "cases": …} ──►  opens the peer, keeps the texts
    {"do": "answer", "case": …}           ──►  labels; this pass also warms
    {"do": "time", "case": …}             ──►  seconds of a fresh computation, by the worker's own clock

One JSON document a line, on the worker's stdin and on a copy of its stdout; whatever libraries print goes to stderr, a file that the driver shows.
While one worker computes, the others wait for a line; each says how much CPU it used while waiting, so one that spins is seen.
This module needs the standard library alone: a worker may run under an interpreter that has nothing else of ours.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.peers import Job, Model, Peer

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "transformers", "tokenizers", "onnxruntime", "optimum", "optimum-onnx", "numpy")
WAKE_TEXTS = 8  # answered untimed before each timing: the worker has slept, its threads and caches are cold
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore",
}


class PeerFailedError(Exception):
    """A peer could not start, or broke off."""


@dataclass(kw_only=True)
class Measured:
    """What a peer did.

    Attributes:
        settings: its row's words.
        indices: by case, which of the case's texts it was given.
        labels: by case, its answers.
        rounds: by case and round, seconds: one figure for a pass over all texts, or one a text.
        idle_s: seconds it waited while others computed.
        idle_cpu_s: the CPU seconds it used meanwhile.
        versions: the packages of its interpreter.
    """

    settings: str
    indices: dict[str, list[int]]
    labels: dict[str, list[str]] = field(default_factory=dict)
    rounds: dict[str, list[list[float]]] = field(default_factory=dict)
    idle_s: float = 0.0
    idle_cpu_s: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """Peers by name, why those that failed did, and the threads each computed with."""

    measured: dict[str, Measured]
    failed: dict[str, str]
    threads: int


def measure(
    table: str,
    *,
    cases: Mapping[str, list[str]],
    job: Job,
    alone: bool,
    repeats: int,
    only: tuple[str, ...] = (),
    interpreters: Mapping[str, str],
) -> Results:
    """Start every peer, then let them compute in turn.

    Args:
        table: "module:NAME" of a dict of peers.
        cases: lists of texts by name.
        job: what peers are given.
        alone: time every text alone, else one pass over them all.
        repeats: rounds. Every second one runs backwards, so that no peer always follows the same other.
        only: beginnings of the names of peers to run; none for all.
        interpreters: beginnings of names → the Python they run under; others run under this one.
    """
    peers = {name: peer for name, peer in open_table(table).items() if not only or name.startswith(only)}
    for wanted in (*only, *interpreters):
        if not any(name.startswith(wanted) for name in open_table(table)):
            raise SystemExit(
                f"error: no peer's name begins with {wanted!r}. There are: {', '.join(open_table(table))}."
            )
    results = Results({}, {}, job.threads)
    workers: dict[str, Worker] = {}
    with ExitStack() as stack:
        for name, peer in peers.items():
            python = next((path for wanted, path in interpreters.items() if name.startswith(wanted)), sys.executable)
            with _noting_failure(results, name):
                _tell(f"starting {name}")
                worker = stack.enter_context(Worker(name, python=python, threads=job.threads))
                results.measured[name] = _start(worker, table, peer, cases=cases, job=job, alone=alone)
                workers[name] = worker
        for turn in range(repeats):
            for case in cases:
                _tell(f"round {turn + 1} of {repeats}, {case}")
                for name in list(workers)[:: -1 if turn % 2 else 1]:
                    if name not in results.failed:
                        with _noting_failure(results, name):
                            _time(workers[name], results.measured[name], case, alone=alone)
    return results


def open_table(table: str) -> dict[str, Peer]:
    """Import a table of peers by "module:NAME"."""
    module, _, name = table.partition(":")
    peers: dict[str, Peer] = getattr(import_module(module), name)
    return peers


def spread(number: int, most: int | None) -> list[int]:
    """Choose `most` of `number` places evenly, in order; all where `most` is None or enough."""
    if most is None or most >= number:
        return list(range(number))
    return [place * number // most for place in range(most)]


class Worker:
    """The driver's end of one worker process."""

    def __init__(self, name: str, *, python: str, threads: int) -> None:
        """Start the process; it has opened nothing yet."""
        self.name, self.python = name, python
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        # tokenizers keeps a thread pool of its own, sized from the machine unless told.
        environment = {**os.environ, **QUIET, "RAYON_NUM_THREADS": str(threads)}
        try:
            self._process = subprocess.Popen(
                [python, "-m", "bench.worker"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                encoding="utf-8",
            )
        except OSError as exc:
            self._stderr.close()
            raise PeerFailedError(f"{python}: {exc.strerror}") from exc

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Raises:
            PeerFailedError: the worker reports an error, or is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            last = self._printed().strip().split("\n")[-1]
            raise PeerFailedError(f"the process ended with {self._process.wait()}: {last or 'no message'}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise PeerFailedError(reply["error"])
        return reply

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        for line in self._printed().splitlines():
            print(f"[{self.name}] {line}", file=sys.stderr)
        self._stderr.close()

    def _printed(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", errors="replace")


@contextmanager
def _noting_failure(results: Results, name: str) -> Iterator[None]:
    """Note a peer's failure and go on with the others."""
    try:
        yield
    except PeerFailedError as exc:
        results.failed[name] = str(exc)
        results.measured.pop(name, None)
        _tell(f"{name} failed: {exc}")


def _start(
    worker: Worker, table: str, peer: Peer, *, cases: Mapping[str, list[str]], job: Job, alone: bool
) -> Measured:
    measured = Measured(
        settings=peer.settings
        + (f"; measured on at most {peer.max_texts} texts, evenly spread" if peer.max_texts else ""),
        indices={case: spread(len(texts), peer.max_texts) for case, texts in cases.items()},
    )
    given = {case: [cases[case][index] for index in indices] for case, indices in measured.indices.items()}
    opening = {"do": "open", "table": table, "peer": worker.name, "job": job._asdict(), "cases": given}
    measured.versions = worker.ask(opening)["versions"]
    for case in cases:
        measured.labels[case] = worker.ask({"do": "answer", "case": case, "alone": alone})["labels"]
        measured.rounds[case] = []
    return measured


def _time(worker: Worker, measured: Measured, case: str, *, alone: bool) -> None:
    reply = worker.ask({"do": "time", "case": case, "alone": alone})
    measured.rounds[case].append(reply["seconds"])
    measured.idle_s += reply["idle_s"]
    measured.idle_cpu_s += reply["idle_cpu_s"]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def serve() -> None:
    """Be a worker: answer requests until there are no more."""
    logging.disable(logging.WARNING)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between the replies
    served = _Served()
    replied, replied_cpu = time.perf_counter(), time.process_time()
    for line in sys.stdin:
        idle = {"idle_s": time.perf_counter() - replied, "idle_cpu_s": time.process_time() - replied_cpu}
        try:
            reply = _reply(served, json.loads(line))
        except Exception as exc:  # whatever a peer raises is its result; the driver reports it
            traceback.print_exc()
            reply = {"error": f"{type(exc).__name__}: {exc}"}
        replies.write(json.dumps(idle | reply) + "\n")
        replies.flush()
        replied, replied_cpu = time.perf_counter(), time.process_time()


@dataclass
class _Served:
    """What a worker holds: the open peer and its texts by case."""

    model: Model | None = None
    cases: dict[str, list[str]] = field(default_factory=dict)


def _reply(served: _Served, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "open":
        served.model = open_table(request["table"])[request["peer"]].open(Job(**request["job"]))
        served.cases = request["cases"]
        return {"versions": {package: _version(package) for package in PACKAGES}}
    assert served.model is not None
    return ANSWERS[request["do"]](served.model, served.cases[request["case"]], request["alone"])


def _answer(model: Model, texts: list[str], alone: bool) -> dict[str, Any]:
    return {"labels": [model.one(text) for text in texts] if alone else model.many(texts)}


def _seconds(model: Model, texts: list[str], alone: bool) -> dict[str, Any]:
    _answer(model, texts[:WAKE_TEXTS], alone)
    seconds, parts = [], [[text] for text in texts] if alone else [texts]
    for part in parts:
        start = time.perf_counter()
        if alone:
            model.one(part[0])
        else:
            model.many(part)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


ANSWERS: dict[str, Callable[[Model, list[str], bool], dict[str, Any]]] = {"answer": _answer, "time": _seconds}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    serve()
