"""Runs beside each other: what they reached, how fast, and which settings differ.

python -m trainer compare runs/a runs/b --plot compare.png
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from runtime.errors import InputError

from .checkpoint import CONFIG, RunRecord, read_config, read_record
from .config import TrainConfig
from .errors import RunError
from .history import History
from .objectives import OBJECTIVES
from .pace import overall

NOT_SETTINGS = ("output", "config", "overwrite", "resume", "keep_checkpoints", "show_rows", "track")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare finished runs of one task."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Their folders."""
    plot: Path | None = None
    """Also draw the evaluation metric over the epochs, as PNG."""


class Run(NamedTuple):
    """A run as it is compared."""

    name: str
    record: RunRecord
    config: TrainConfig
    history: list[dict[str, Any]]


def compare(config: CompareConfig, *, say: Callable[[str], None]) -> None:
    """Print a table of runs and of the settings in which they differ, and draw them.

    Raises:
        InputError: fewer than two runs, or runs of several tasks.
        RunError: a run that is not finished, or a plot that cannot be written.
    """
    if len(config.runs) < 2:
        raise InputError(f"compare takes two runs or more. Got {len(config.runs)} instead.")
    runs = [
        Run(str(folder), read_record(folder), read_config(folder / CONFIG), History(folder, 0, main=False).lines())
        for folder in config.runs
    ]
    tasks = {run.config.task for run in runs}
    if len(tasks) > 1:
        raise InputError(f"runs of one task can be compared. Got {', '.join(sorted(tasks))} instead.")
    for line in [*align(_figures(runs)), "", *align(_settings(runs))]:
        say(line)
    if config.plot is not None:
        _draw(runs, config.plot)
        say(f"plot: {config.plot}")


def _figures(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Give the table's rows, the heading first; evaluation and test as "eval/test"."""
    metrics = OBJECTIVES[runs[0].config.task].metrics
    return [
        ("run", *(f"{name}, eval / test" for name in metrics), "weights of", "texts/s"),
        *(
            (
                run.name,
                *(f"{_metric(run.record.eval, name)} / {_metric(run.record.test, name)}" for name in metrics),
                f"{run.record.weights_of} of {run.record.total_steps:,}",
                _speed(run),
            )
            for run in runs
        ),
    ]


def _metric(values: dict[str, float] | None, name: str) -> str:
    return "–" if values is None else f"{values[name]:.4f}"


def _speed(run: Run) -> str:
    speed = overall(run.history)
    return "–" if speed is None else f"{speed.texts_per_s:.0f}"


def _settings(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Give the flags in which runs differ, the heading first."""
    names = [field.name for field in fields(TrainConfig) if field.name not in NOT_SETTINGS]
    differing = [name for name in names if len({repr(getattr(run.config, name)) for run in runs}) > 1]
    if not differing:
        return [("no setting differs",)]
    return [
        ("setting", *(run.name for run in runs)),
        *((f"--{name.replace('_', '-')}", *(str(getattr(run.config, name)) for run in runs)) for name in differing),
    ]


def align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lay out rows of cells as lines of a table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _draw(runs: Sequence[Run], file: Path) -> None:
    from .plots.runs import plot_comparison

    metric = runs[0].config.best_metric or OBJECTIVES[runs[0].config.task].best_metric
    curves = {}
    for run in runs:
        evaluated = [line for line in run.history if "eval" in line]
        curves[run.name] = [line["epoch"] for line in evaluated], [line["eval"][metric] for line in evaluated]
    try:
        file.write_bytes(plot_comparison(curves, metric=metric).light)
    except OSError as exc:
        raise RunError(f"{file} cannot be written: {exc.strerror}. Choose another --plot.") from exc
