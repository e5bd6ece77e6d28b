"""What the programs that compare peers share: their flags, the texts, and how a run and a peer are described."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from bench.driver import Lineup, Measured, Results, spread
from bench.environments import FOLDER
from bench.machine import describe_machine
from bench.peers import Job
from runtime.bundle import Manifest, read
from runtime.errors import Error
from runtime.threads import usable_threads

ANSWERS_REFERENCE = "portabert fp32"  # whose labels the others' are compared with
QUIET_LOAD = 0.5  # a load above this before the start means that something else computes
IDLE_SHARE = 0.02  # of one CPU; a waiting worker that uses more disturbs the others


@dataclass(frozen=True, kw_only=True)
class PeersConfig:
    """One model, and the ways to answer with it that are compared."""

    run: Path
    """The checkpoint: a Hugging Face folder."""
    bundle: Path
    """What `python -m export` made of it, with the variants that the peers of portabert name."""
    threads: int | None = None
    """Threads each peer computes with. Default: as many as this process really has."""
    only: tuple[str, ...] = ()
    """Run only the peers whose names begin so."""
    environments: Path = FOLDER
    """Where `python -m bench.environments` made those that some peers need."""
    python: tuple[str, ...] = ()
    """NAME=PATH: run the peers whose names begin with NAME under that Python."""
    output: Path | None = None
    """Write the JSON here too."""


@dataclass(frozen=True, kw_only=True)
class TextsConfig:
    """Compare ways to answer texts with one model."""

    peers: Annotated[PeersConfig, tyro.conf.arg(name="")]
    texts: Path
    """Plain text, a line a text."""
    repeats: int = 5
    """Rounds; a figure is the median over them."""
    max_texts: int | None = None
    """Use so many texts, evenly spread over the file. Default: throughput all, latency 300."""


@contextmanager
def lineup(config: PeersConfig, table: str, *, calibration: list[str]) -> Iterator[Lineup]:
    """Give who takes part as configured, and a folder for the files that peers make.

    Args:
        config: the flags.
        table: "module:NAME" of the peers.
        calibration: texts for peers that calibrate on some.
    """
    manifest = open_bundle(config.bundle)
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "calibration.txt"
        file.write_text("\n".join(calibration), encoding="utf-8")
        yield Lineup(
            table,
            Job(
                run=str(config.run.resolve()),
                bundle=str(config.bundle.resolve()),
                work=work,
                threads=usable_threads(config.threads).number,
                max_length=manifest.max_length,
                calibration=str(file),
            ),
            config.only,
            dict(_name_and_path(flag) for flag in config.python),
            config.environments,
        )


def read_texts(file: Path, *, max_texts: int | None) -> list[str]:
    """Read a line a text, blank lines left out."""
    lines = file.read_text(encoding="utf-8").split("\n")
    texts = [line.rstrip("\r") for line in lines if line.strip()]
    if not texts:
        raise SystemExit(f"error: {file} holds no text. Write a line a text.")
    return [texts[index] for index in spread(len(texts), max_texts)]


def open_bundle(bundle: Path) -> Manifest:
    """Read the manifest; refuse what the peers cannot all do."""
    try:
        manifest = read(bundle)
    except Error as exc:
        raise SystemExit(f"error: {exc}") from exc
    if manifest.task != "single-label" or manifest.pair:
        shape = f"{manifest.task}{', pairs' if manifest.pair else ''}"
        raise SystemExit(f"error: the bundle must label single texts (task single-label). Got {shape} instead.")
    return manifest


def check_repeats(repeats: int) -> None:
    """Refuse no rounds."""
    if repeats < 1:
        raise SystemExit(f"error: --repeats must be a positive integer. Got {repeats} instead.")


def warn_of_load() -> float:
    """Give the load before the start; say so where figures will mean little."""
    load = os.getloadavg()[0]
    if load > QUIET_LOAD:
        print(
            f"warning: the load is {load:.1f}; something else computes, and the figures will mean little",
            file=sys.stderr,
        )
    return load


def describe_run(config: PeersConfig, *, failed: dict[str, str], load: float) -> dict[str, Any]:
    """Say where and on what figures were taken, after they were; folders by name only."""
    machine = describe_machine()
    return {
        "machine": machine,
        "threads": usable_threads(config.threads).number,
        "load_before": load,
        "run": config.run.resolve().name,
        "bundle": config.bundle.resolve().name,
        "failed": failed,
    }


def describe_timing(config: TextsConfig, results: Results, *, load: float) -> dict[str, Any]:
    """Say of a timed run on which texts it was, in how many rounds, and whether the machine stayed as it was."""
    described = describe_run(config.peers, failed=results.failed, load=load)
    return {
        **described,
        "threads": results.threads,
        "threads_after": described["threads"],
        "texts": config.texts.name,
        "repeats": config.repeats,
    }


def describe_peer(peer: Measured, results: Results) -> dict[str, Any]:
    """Say how a peer was set, whether it answers right, and whether it was still while others computed."""
    return {
        "settings": peer.settings,
        "precision": peer.precision,
        "opened": peer.description,
        "versions": peer.versions,
        "agreement": _agreement(peer, results.measured.get(ANSWERS_REFERENCE)),
        "idle_cpu_share": peer.idle_cpu_s / peer.idle_s if peer.idle_s else 0.0,
    }


def print_doubts(document: dict[str, Any]) -> None:
    """Print what did not run, and what makes figures doubtful."""
    if document["threads"] != document.get("threads_after", document["threads"]):
        print(
            f"discard this run: threads went from {document['threads']} to {document['threads_after']} meanwhile (CPU affinity or quota)"
        )
    for name, reason in document["failed"].items():
        print(f"{name:32} failed: {reason}")
    for name, peer in document["peers"].items():
        if peer.get("idle_cpu_share", 0.0) > IDLE_SHARE:
            print(f"{name:32} used {peer['idle_cpu_share']:.0%} of a CPU while others computed")


def finish(document: dict[str, Any], output: Path | None) -> None:
    """Print the JSON document as the last line, and write it where asked."""
    line = json.dumps(document, ensure_ascii=False)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(line + "\n", encoding="utf-8")
    print(line)


def cell(value: float | None, form: str) -> str:
    """Format a figure of a table; a dash where there is none."""
    return "–" if value is None else format(value, form)


def _agreement(peer: Measured, reference: Measured | None) -> float | None:
    if reference is None:
        return None
    same = [
        label == reference.labels[case][index]
        for case, indices in peer.indices.items()
        for index, label in zip(indices, peer.labels[case], strict=True)
    ]
    return sum(same) / len(same)


def _name_and_path(flag: str) -> tuple[str, str]:
    name, equals, path = flag.partition("=")
    if not (name and equals and path):
        raise SystemExit(f"error: --python must be NAME=PATH. Got {flag!r} instead.")
    return name, str(Path(path).expanduser().absolute())  # not resolved: an environment's python is a link
