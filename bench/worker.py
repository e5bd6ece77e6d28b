"""The worker's end of the pipe: one peer in a process of its own, which answers and times itself when it is asked.

    driver                                   worker: python -m bench.worker, one a peer
    {"do": "open", "peer": …, "cases": …} ──►  opens the peer, keeps the texts
    {"do": "answer", "case": …}           ──►  labels; a pass over all texts also warms
    {"do": "time", "case": …}             ──►  seconds of a fresh computation, by the worker's own clock

One JSON document a line, on the worker's stdin and on a copy of its stdout; whatever libraries print goes to stderr, a file that the driver shows.
While one worker computes, the others wait for a line; each says how much CPU it used while waiting, so one that spins is seen.
This module needs the standard library alone: a worker may run under an interpreter that has nothing else of ours.
"""

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench.peers import Job, Model, Peer

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "onnxruntime",
    "onnxscript",
    "optimum",
    "optimum-onnx",
    "optimum-intel",
    "openvino",
    "nncf",
    "ctranslate2",
    "numpy",
)
WAKE_TEXTS = 8  # answered untimed before each timing: the worker has slept, its threads and caches are cold


def serve() -> None:
    """Answer requests until there are no more."""
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


def open_table(table: str) -> dict[str, Peer]:
    """Import a table of peers by "module:NAME"."""
    module, _, name = table.partition(":")
    peers: dict[str, Peer] = getattr(import_module(module), name)
    return peers


@dataclass
class _Served:
    """What a worker holds: the open peer and its texts by case."""

    model: Model | None = None
    cases: dict[str, list[str]] = field(default_factory=dict)


def _reply(served: _Served, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "open":
        peer = open_table(request["table"])[request["peer"]]
        served.model, served.cases = peer.open(Job(**request["job"])), request["cases"]
        return {
            "precision": served.model.precision or peer.precision,
            "description": served.model.description,
            "files": {file.name: file.stat().st_size for file in served.model.files},
            "versions": {package: number for package in PACKAGES if (number := _version(package))},
        }
    assert served.model is not None
    return ANSWERS[request["do"]](served.model, served.cases[request["case"]], request["at_once"])


def _answer(model: Model, texts: list[str], at_once: int | None) -> dict[str, Any]:
    return {"labels": [label for call in _calls(texts, at_once) for label in _call(model, call, at_once)]}


def _seconds(model: Model, texts: list[str], at_once: int | None) -> dict[str, Any]:
    _answer(model, texts[:WAKE_TEXTS], at_once)
    seconds = []
    for call in _calls(texts, at_once):
        start = time.perf_counter()
        _call(model, call, at_once)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def _calls(texts: list[str], at_once: int | None) -> list[list[str]]:
    """Cut texts into the calls they are answered in, `at_once` texts each; all in one where it is None."""
    size = at_once or len(texts)
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _call(model: Model, texts: list[str], at_once: int | None) -> list[str]:
    return [model.one(texts[0])] if at_once == 1 else model.many(texts)


ANSWERS: dict[str, Callable[[Model, list[str], int | None], dict[str, Any]]] = {"answer": _answer, "time": _seconds}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    serve()
