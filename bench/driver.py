"""The driver's end of the pipe: workers by peer, and the rounds in which they compute in turn (bench/worker.py has the protocol)."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from bench.environments import FOLDER, interpreter
from bench.peers import Job, Peer
from bench.worker import open_table

ROOT = Path(__file__).parents[1]
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore",
}
T = TypeVar("T")


class PeerFailedError(Exception):
    """A peer could not start, or broke off."""


class Lineup(NamedTuple):
    """Who takes part.

    Attributes:
        table: "module:NAME" of a dict of peers.
        job: what peers are given.
        only: beginnings of the names of peers that take part; none for all.
        interpreters: beginnings of names → the Python they run under; others run under their environment's or this one.
        environments: the folder of the environments.
    """

    table: str
    job: Job
    only: tuple[str, ...] = ()
    interpreters: Mapping[str, str] = {}
    environments: Path = FOLDER

    def peers(self) -> dict[str, Peer]:
        """Choose from the table; a name that begins no peer's is refused."""
        table = open_table(self.table)
        for wanted in (*self.only, *self.interpreters):
            if not any(name.startswith(wanted) for name in table):
                raise SystemExit(f"error: no peer's name begins with {wanted!r}. There are: {', '.join(table)}.")
        return {name: peer for name, peer in table.items() if not self.only or name.startswith(self.only)}

    def python(self, name: str, environment: str | None) -> str:
        """Find the interpreter of a peer.

        Raises:
            PeerFailedError: its environment is not there.
        """
        for wanted, path in self.interpreters.items():
            if name.startswith(wanted):
                return path
        if environment is None:
            return sys.executable
        python = interpreter(environment, folder=self.environments)
        if python is None:
            raise PeerFailedError(
                f"needs the environment {environment!r}, which is not in {self.environments}: make bench-envs"
            )
        return str(python)


@dataclass(kw_only=True)
class Measured:
    """What a peer did.

    Attributes:
        settings: its row's words.
        precision: what its products are computed in.
        indices: by case, which of the case's texts it was given.
        description: what it says of itself.
        files: bytes of the files it read, by name.
        versions: the packages of its interpreter.
        labels: by case, its answers.
        rounds: by case and round, seconds: one figure for a pass over all texts, or one a call.
        idle_s: seconds it waited while others computed.
        idle_cpu_s: the CPU seconds it used meanwhile.
    """

    settings: str
    precision: str
    indices: dict[str, list[int]]
    description: str = ""
    files: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    rounds: dict[str, list[list[float]]] = field(default_factory=dict)
    idle_s: float = 0.0
    idle_cpu_s: float = 0.0


@dataclass(frozen=True)
class Results:
    """Peers by name, why those that failed did, and the threads each computed with."""

    measured: dict[str, Measured]
    failed: dict[str, str]
    threads: int


def measure(lineup: Lineup, *, cases: Mapping[str, list[str]], at_once: int | None, repeats: int) -> Results:
    """Start every peer, then let them compute in turn.

    Args:
        lineup: who.
        cases: lists of texts by name.
        at_once: texts a call; None for all of a case in one.
        repeats: rounds. Every second one runs backwards, so that no peer always follows the same other.
    """
    results = Results({}, {}, lineup.job.threads)
    workers: dict[str, Worker] = {}
    with ExitStack() as stack:
        for name, peer in lineup.peers().items():
            with noting_failure(results.failed, name):
                tell(f"starting {name}")
                worker = stack.enter_context(start(lineup, name, peer))
                results.measured[name] = _warm(worker, lineup, peer, cases=cases, at_once=at_once)
                workers[name] = worker
        for turn in range(repeats):
            for case in cases:
                tell(f"round {turn + 1} of {repeats}, {case}")
                for name in list(workers)[:: -1 if turn % 2 else 1]:
                    if name not in results.failed:
                        with noting_failure(results.failed, name):
                            _time(workers[name], results.measured[name], case, at_once=at_once)
    for name in results.failed:
        results.measured.pop(name, None)
    return results


def each_alone(lineup: Lineup, ask: Callable[["Worker", Peer], T]) -> tuple[dict[str, T], dict[str, str]]:
    """Start peers one after the other, ask each, and let it go: what they say by name, and why those that failed did."""
    said: dict[str, T] = {}
    failed: dict[str, str] = {}
    for name, peer in lineup.peers().items():
        tell(name)
        with noting_failure(failed, name), start(lineup, name, peer) as worker:
            said[name] = ask(worker, peer)
    return said, failed


def spread(number: int, most: int | None) -> list[int]:
    """Choose `most` of `number` places evenly, in order; all where `most` is None or enough."""
    if most is None or most >= number:
        return list(range(number))
    return [place * number // most for place in range(most)]


def start(lineup: Lineup, name: str, peer: Peer) -> "Worker":
    """Start a peer's process.

    Raises:
        PeerFailedError: there is no such interpreter.
    """
    return Worker(name, python=lineup.python(name, peer.environment), threads=lineup.job.threads)


def environment_of_peers(threads: int) -> dict[str, str]:
    """Give the environment variables of a process that computes for a peer."""
    # tokenizers keeps a thread pool of its own, sized from the machine unless told.
    return {**os.environ, **QUIET, "RAYON_NUM_THREADS": str(threads)}


class Worker:
    """The driver's end of one worker process."""

    def __init__(self, name: str, *, python: str, threads: int) -> None:
        """Start the process; it has opened nothing yet."""
        self.name, self.python = name, python
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        try:
            self._process = subprocess.Popen(
                [python, "-m", "bench.worker"],
                cwd=ROOT,
                env=environment_of_peers(threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                encoding="utf-8",
            )
        except OSError as exc:
            self._stderr.close()
            raise PeerFailedError(f"{python}: {exc.strerror}") from exc

    def open(self, lineup: Lineup, *, cases: Mapping[str, list[str]]) -> dict[str, Any]:
        """Let it open its peer and keep the texts; it says what it opened."""
        job = lineup.job._asdict()
        return self.ask({"do": "open", "table": lineup.table, "peer": self.name, "job": job, "cases": cases})

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
def noting_failure(failed: dict[str, str], name: str) -> Iterator[None]:
    """Note a peer's failure and go on with the others."""
    try:
        yield
    except PeerFailedError as exc:
        failed[name] = str(exc)
        tell(f"{name} failed: {exc}")


def tell(line: str) -> None:
    """Say how far it is."""
    print(line, file=sys.stderr, flush=True)


def _warm(
    worker: Worker, lineup: Lineup, peer: Peer, *, cases: Mapping[str, list[str]], at_once: int | None
) -> Measured:
    indices = {case: spread(len(texts), peer.max_texts) for case, texts in cases.items()}
    opened = worker.open(lineup, cases={case: [cases[case][i] for i in chosen] for case, chosen in indices.items()})
    few = f"; measured on at most {peer.max_texts} texts, evenly spread" if peer.max_texts else ""
    measured = Measured(
        settings=peer.settings + few,
        precision=opened["precision"],
        indices=indices,
        description=opened["description"],
        files=opened["files"],
        versions=opened["versions"],
    )
    for case in cases:
        measured.labels[case] = worker.ask({"do": "answer", "case": case, "at_once": at_once})["labels"]
        measured.rounds[case] = []
    return measured


def _time(worker: Worker, measured: Measured, case: str, *, at_once: int | None) -> None:
    reply = worker.ask({"do": "time", "case": case, "at_once": at_once})
    measured.rounds[case].append(reply["seconds"])
    measured.idle_s += reply["idle_s"]
    measured.idle_cpu_s += reply["idle_cpu_s"]
