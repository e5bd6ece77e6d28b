"""How long from a checkpoint to files that answer, and with how much memory?

    python -m bench.export_time --run RUN --texts FILE [--repeats 3]

Every row of bench/exports.py EXPORTS exports in a process of its own, started afresh in every round, in turn; starting Python and importing count. Peak memory
is the process's own and that of any it started. Prints a table, then one JSON document as its last line.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import tyro

from bench.comparison import check_repeats, finish, read_texts, warn_of_load
from bench.driver import ROOT, PeerFailedError, environment_of_peers, noting_failure, tell
from bench.environments import FOLDER, interpreter
from bench.exports import EXPORTS, Export, Order
from bench.machine import describe_machine
from runtime.threads import usable_threads


@dataclass(frozen=True, kw_only=True)
class ExportTimeConfig:
    """Compare how long exports take."""

    run: Path
    """The checkpoint: a Hugging Face folder."""
    texts: Path
    """Plain text, a line a text, for exports that calibrate on some."""
    repeats: int = 3
    """Rounds; a figure is the median over them."""
    only: tuple[str, ...] = ()
    """Only the exports whose names begin so."""
    environments: Path = FOLDER
    """Where `python -m bench.environments` made those that some exports need."""
    output: Path | None = None
    """Write the JSON here too."""


@dataclass
class _Taken:
    """What the exports of one row took."""

    settings: str
    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    written_bytes: int = 0


def main() -> None:
    """Run the program."""
    config = tyro.cli(ExportTimeConfig, prog="python -m bench.export_time", description=__doc__)
    check_repeats(config.repeats)
    chosen = choose(config.only)
    load = warn_of_load()
    with tempfile.TemporaryDirectory() as work:
        calibration = Path(work) / "calibration.txt"
        calibration.write_text("\n".join(read_texts(config.texts, max_texts=None)), encoding="utf-8")
        taken, failed = _rounds(config, chosen, Path(work), str(calibration))
    document: dict[str, Any] = {
        "question": "export time",
        "machine": describe_machine(),
        "threads": usable_threads().number,
        "load_before": load,
        "run": config.run.resolve().name,
        "repeats": config.repeats,
        "failed": failed,
        "exports": {name: _figures(row) for name, row in taken.items()},
    }
    print(f"{'export':32}{'seconds':>9}{'(least–most)':>17}{'peak MB':>9}{'files MB':>10}")
    for name, row in document["exports"].items():
        low_high = f"({min(row['seconds']):.1f}–{max(row['seconds']):.1f})"
        print(
            f"{name:32}{row['median_s']:>9.1f}{low_high:>17}{row['peak_bytes'] / 1e6:>9.0f}{row['written_bytes'] / 1e6:>10.1f}"
        )
    for name, reason in failed.items():
        print(f"{name:32} failed: {reason}")
    finish(document, config.output)


def choose(only: tuple[str, ...]) -> dict[str, Export]:
    """Choose rows by the beginnings of their names; a beginning that is none's is refused."""
    for wanted in only:
        if not any(name.startswith(wanted) for name in EXPORTS):
            raise SystemExit(f"error: no export's name begins with {wanted!r}. There are: {', '.join(EXPORTS)}.")
    return {name: row for name, row in EXPORTS.items() if not only or name.startswith(only)}


def _rounds(
    config: ExportTimeConfig, chosen: dict[str, Export], work: Path, calibration: str
) -> tuple[dict[str, _Taken], dict[str, str]]:
    taken: dict[str, _Taken] = {}
    failed: dict[str, str] = {}
    for turn in range(config.repeats):
        for name, row in chosen.items():
            if name in failed:
                continue
            tell(f"round {turn + 1} of {config.repeats}, {name}")
            folder = work / (name if row.again else f"{name}-{turn}")
            order = Order(str(config.run.resolve()), str(folder), calibration)
            with noting_failure(failed, name):
                if row.again and turn == 0:
                    _export(name, row, order, config.environments)
                seconds, peak_bytes = _export(name, row, order, config.environments)
                note = taken.setdefault(name, _Taken(row.settings))
                note.seconds.append(seconds)
                note.peak_bytes.append(peak_bytes)
                note.written_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {name: note for name, note in taken.items() if name not in failed}, failed


def _export(name: str, row: Export, order: Order, environments: Path) -> tuple[float, int]:
    """Go one way: seconds, and the most memory in bytes."""
    python = _python(row, environments)
    with tempfile.TemporaryFile() as printed:
        start = time.perf_counter()
        process = subprocess.Popen(
            [python, "-m", "bench.exports", name, json.dumps(order._asdict())],
            cwd=ROOT,
            env=environment_of_peers(usable_threads().number),
            stdout=printed,
            stderr=printed,
        )
        _, status, usage = os.wait4(process.pid, 0)  # not getrusage: that is of all processes so far
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            printed.seek(0)
            lines = printed.read().decode("utf-8", errors="replace").strip().splitlines()
            raise PeerFailedError((lines or ["no message"])[-1])
    return seconds, usage.ru_maxrss * 1024


def _python(row: Export, environments: Path) -> str:
    if row.environment is None:
        return sys.executable
    python = interpreter(row.environment, folder=environments)
    if python is None:
        raise PeerFailedError(
            f"needs the environment {row.environment!r}, which is not in {environments}: make bench-envs"
        )
    return str(python)


def _figures(row: _Taken) -> dict[str, Any]:
    return {
        "settings": row.settings,
        "median_s": median(row.seconds),
        "seconds": row.seconds,
        "peak_bytes": median(row.peak_bytes),
        "written_bytes": row.written_bytes,
    }


if __name__ == "__main__":
    main()
