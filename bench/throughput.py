"""How many texts a second, from strings to answers, beside the ways people know?

    python -m bench.throughput --run RUN --bundle BUNDLE --texts FILE [--repeats 5] [--max-texts N]

Every peer of bench/peers.py THROUGHPUT computes in a process of its own, in turn, in one run (bench/README.md has the method).
Prints a table, then one JSON document as its last line.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import tyro

from bench.machine import describe_machine
from bench.peers import Job
from bench.worker import Measured, Results, measure, spread
from runtime.bundle import Manifest, read
from runtime.threads import usable_threads

TABLE = "bench.peers:THROUGHPUT"
REFERENCE = "optimum int8 batch 32"
ANSWERS_REFERENCE = "portabert fp32"  # whose labels the others' are compared with
QUIET_LOAD = 0.5  # a load above this before the start means that something else computes
IDLE_SHARE = 0.02  # of one CPU; a waiting worker that uses more disturbs the others


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Compare ways to answer texts with one model."""

    run: Path
    """The checkpoint: a Hugging Face folder."""
    bundle: Path
    """What `python -m export` made of it, with the variants fp32 and int8."""
    texts: Path
    """Plain text, a line a text."""
    repeats: int = 5
    """Rounds; a figure is the median over them."""
    max_texts: int | None = None
    """Use so many texts, evenly spread over the file. Default: throughput all, latency 300."""
    threads: int | None = None
    """Threads each peer computes with. Default: as many as this process really has."""
    only: tuple[str, ...] = ()
    """Run only the peers whose names begin so."""
    python: tuple[str, ...] = ()
    """NAME=PATH: run the peers whose names begin with NAME under that Python."""
    output: Path | None = None
    """Write the JSON here too."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(BenchConfig, prog="python -m bench.throughput", description=__doc__)
    texts = read_texts(config.texts, max_texts=config.max_texts)
    load = warn_of_load()
    results = compare(config, TABLE, cases={"all": texts}, alone=False)
    document = {
        "question": "throughput",
        **describe_run(config, results, load=load),
        "reference": REFERENCE,
        "num_texts": len(texts),
        "peers": {name: _figures(peer, results) for name, peer in results.measured.items()},
    }
    _print_table(document)
    finish(document, config.output)


def _figures(peer: Measured, results: Results) -> dict[str, Any]:
    seconds = [round_s[0] for round_s in peer.rounds["all"]]
    num_texts = len(peer.indices["all"])
    reference = results.measured.get(REFERENCE)
    ratios = (
        [
            (num_texts / own) / (len(reference.indices["all"]) / other[0])
            for own, other in zip(seconds, reference.rounds["all"], strict=True)
        ]
        if reference
        else []
    )
    return {
        **describe_peer(peer, results),
        "num_texts": num_texts,
        "texts_per_s": num_texts / median(seconds),
        "ratio": median(ratios) if ratios else None,
        "ratios": ratios,
        "seconds": seconds,
    }


def _print_table(document: dict[str, Any]) -> None:
    print(f"{'peer':30}{'texts/s':>9}{'× reference':>13}{'(least–most)':>15}{'agreement':>11}{'texts':>7}")
    for name, peer in document["peers"].items():
        low_high = f"({min(peer['ratios']):.2f}–{max(peer['ratios']):.2f})" if peer["ratios"] else "–"
        print(
            f"{name:30}{peer['texts_per_s']:>9.0f}{_cell(peer['ratio'], '.2f'):>13}{low_high:>15}"
            f"{_cell(peer['agreement'], '.2%'):>11}{peer['num_texts']:>7}"
        )
    print(f"reference: {REFERENCE}; agreement: with the labels of {ANSWERS_REFERENCE}")
    print_failures(document)


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


# From here on: what bench.latency shares.


def read_texts(file: Path, *, max_texts: int | None) -> list[str]:
    """Read a line a text, blank lines left out."""
    lines = file.read_text(encoding="utf-8").split("\n")
    texts = [line.rstrip("\r") for line in lines if line.strip()]
    if not texts:
        raise SystemExit(f"error: {file} holds no text. Write a line a text.")
    return [texts[index] for index in spread(len(texts), max_texts)]


def open_bundle(config: BenchConfig) -> Manifest:
    """Read the manifest; refuse what the peers cannot all do."""
    manifest = read(config.bundle)
    if manifest.task != "single-label" or manifest.pair:
        shape = f"{manifest.task}{', pairs' if manifest.pair else ''}"
        raise SystemExit(f"error: the bundle must label single texts (task single-label). Got {shape} instead.")
    if config.repeats < 1:
        raise SystemExit(f"error: --repeats must be a positive integer. Got {config.repeats} instead.")
    return manifest


def compare(config: BenchConfig, table: str, *, cases: Mapping[str, list[str]], alone: bool) -> Results:
    """Measure a table's peers as configured."""
    interpreters = dict(_name_and_path(flag) for flag in config.python)
    manifest = open_bundle(config)
    with tempfile.TemporaryDirectory() as work:
        job = Job(
            run=str(config.run.resolve()),
            bundle=str(config.bundle.resolve()),
            work=work,
            threads=usable_threads(config.threads).number,
            max_length=manifest.max_length,
        )
        return measure(
            table,
            cases=cases,
            job=job,
            alone=alone,
            repeats=config.repeats,
            only=config.only,
            interpreters=interpreters,
        )


def _name_and_path(flag: str) -> tuple[str, str]:
    name, equals, path = flag.partition("=")
    if not (name and equals and path):
        raise SystemExit(f"error: --python must be NAME=PATH. Got {flag!r} instead.")
    return name, str(Path(path).expanduser().absolute())  # not resolved: an environment's python is a link


def warn_of_load() -> float:
    """Give the load before the start; say so where figures will mean little."""
    load = os.getloadavg()[0]
    if load > QUIET_LOAD:
        print(
            f"warning: the load is {load:.1f}; something else computes, and the figures will mean little",
            file=sys.stderr,
        )
    return load


def describe_run(config: BenchConfig, results: Results, *, load: float) -> dict[str, Any]:
    """Say where and on what figures were taken; folders by name only."""
    return {
        "machine": describe_machine(),
        "threads": results.threads,
        "threads_after": usable_threads(config.threads).number,
        "load_before": load,
        "run": config.run.resolve().name,
        "bundle": config.bundle.resolve().name,
        "texts": config.texts.name,
        "repeats": config.repeats,
        "failed": results.failed,
    }


def describe_peer(peer: Measured, results: Results) -> dict[str, Any]:
    """Say how a peer was set, whether it answers right, and whether it was still while others computed."""
    return {
        "settings": peer.settings,
        "versions": peer.versions,
        "agreement": _agreement(peer, results.measured.get(ANSWERS_REFERENCE)),
        "idle_cpu_share": peer.idle_cpu_s / peer.idle_s if peer.idle_s else 0.0,
    }


def _agreement(peer: Measured, reference: Measured | None) -> float | None:
    if reference is None:
        return None
    same = [
        label == reference.labels[case][index]
        for case, indices in peer.indices.items()
        for index, label in zip(indices, peer.labels[case], strict=True)
    ]
    return sum(same) / len(same)


def print_failures(document: dict[str, Any]) -> None:
    """Print what did not run, and what makes the figures doubtful."""
    if document["threads"] != document["threads_after"]:
        print(
            f"discard this run: threads went from {document['threads']} to {document['threads_after']} meanwhile (CPU affinity or quota)"
        )
    for name, reason in document["failed"].items():
        print(f"{name:30} failed: {reason}")
    for name, peer in document["peers"].items():
        if peer["idle_cpu_share"] > IDLE_SHARE:
            print(f"{name:30} used {peer['idle_cpu_share']:.0%} of a CPU while others computed")


def finish(document: dict[str, Any], output: Path | None) -> None:
    """Print the JSON document as the last line, and write it where asked."""
    line = json.dumps(document, ensure_ascii=False)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
