"""How many texts a second are trained on, beside transformers' Trainer?

    python -m bench.training --rows train.jsonl [--model minilm] [--num-rows 1920] [--repeats 3]

Every trainer of bench/trainers.py TRAINERS runs in a process of its own, in turn, `repeats` times, over the same rows (`{"text": …, "label": …}` a line; drawn once);
its second epoch is timed. Prints a table, then one JSON document as its last line.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tyro

from bench.comparison import cell, finish, warn_of_load
from bench.flops import read_model
from bench.machine import describe_machine
from bench.roofline import best_peaks, measure_peaks
from bench.trainers import BATCH_SIZE, LOG_STEPS, MAX_LENGTH, TRAINERS
from runtime.encode import Encoder
from runtime.errors import InputError
from runtime.threads import usable_threads
from trainer.flops import flops_of_texts
from trainer.model import find_model

REFERENCE = "portabert"
PASSES = 3  # FLOPs of a step beside those of a forward pass: backward takes two more (Kaplan et al. 2020, section 2.1)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Compare how fast trainers go."""

    rows: Path
    """JSON lines with text and label."""
    model: str = "minilm"
    """What is fine-tuned."""
    num_rows: int = 1920
    """Rows of an epoch, drawn from the file; a multiple of 320, so that epochs end where logs do."""
    repeats: int = 3
    """Rounds over all trainers."""
    only: tuple[str, ...] = ()
    """The trainers to run; none for all that this machine can."""
    peak: bool = True
    """Measure the peak of the machine's matrix products first, half a minute."""
    output: Path | None = None
    """Where the JSON document is written as well."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(TrainingConfig, prog="python -m bench.training", description=__doc__)
    names = _names(config)
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        texts = _draw(config, rows)
        load = warn_of_load()
        peaks = best_peaks(measure_peaks(threads=usable_threads().number)) if config.peak else {}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(config.repeats):
            for name in names:
                seconds[name].append(_train(name, config.model, rows))
                print(f"{name}: {config.num_rows / seconds[name][-1]:.1f} texts/s", file=sys.stderr, flush=True)
    flops = PASSES * _flops(config.model, texts)
    trainers = {
        name: _describe(name, times, seconds.get(REFERENCE), config, flops, peaks) for name, times in seconds.items()
    }
    _print_table(trainers)
    finish(
        {
            "question": "training",
            "machine": describe_machine(),
            "load": load,
            "model": config.model,
            "rows": config.rows.name,
            "num_rows": config.num_rows,
            "repeats": config.repeats,
            "batch_size": BATCH_SIZE,
            "max_length": MAX_LENGTH,
            "flops_a_text": flops / config.num_rows,
            "peaks": {precision: peak._asdict() for precision, peak in peaks.items()},
            "trainers": trainers,
        },
        config.output,
    )


def _names(config: TrainingConfig) -> list[str]:
    import torch

    unknown = set(config.only) - set(TRAINERS)
    if unknown or config.num_rows % (BATCH_SIZE * LOG_STEPS) or config.num_rows < 1:
        raise InputError(
            f"--only names trainers among {', '.join(TRAINERS)}, and --num-rows is a multiple of {BATCH_SIZE * LOG_STEPS}. "
            f"Got {', '.join(config.only) or 'all'} and {config.num_rows} instead."
        )
    return [
        name for name in config.only or TRAINERS if not TRAINERS[name].gpu or torch.cuda.is_available() or config.only
    ]


def _draw(config: TrainingConfig, file: Path) -> list[str]:
    """Write the rows that all trainers get."""
    lines = config.rows.read_text(encoding="utf-8").splitlines()
    if len(lines) < config.num_rows:
        raise InputError(
            f"{config.rows} has {len(lines)} rows; --num-rows must not be more. Got {config.num_rows} instead."
        )
    chosen = [lines[index] for index in np.random.default_rng(0).permutation(len(lines))[: config.num_rows]]
    file.write_text("".join(line + "\n" for line in chosen), encoding="utf-8")
    return [json.loads(line)["text"] for line in chosen]


def _train(name: str, model: str, rows: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "bench.trainers", name, model, str(rows)],
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise InputError(f"{name} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def _flops(model: str, texts: list[str]) -> float:
    folder = Path(find_model(model))
    lengths = Encoder(folder, max_length=MAX_LENGTH, pair=False, offsets=False).encode(texts).batch.lengths
    return float(flops_of_texts(read_model(folder), lengths).sum())


def _describe(
    name: str,
    seconds: list[float],
    reference: list[float] | None,
    config: TrainingConfig,
    flops: float,
    peaks: dict[str, Any],
) -> dict[str, Any]:
    """Say of a trainer how fast it went, and how many times as fast the reference did in the same rounds."""
    ratios = [own / other for own, other in zip(seconds, reference, strict=True)] if reference else []
    return {
        "settings": TRAINERS[name].settings,
        "seconds": seconds,
        "texts_per_s": config.num_rows / median(seconds),
        "slower": median(ratios) if ratios else None,
        "slower_low_high": (min(ratios), max(ratios)) if ratios else None,
        "flops_per_s": flops / median(seconds),
        "share_of_peak": {precision: flops / median(seconds) / peak.flops_per_s for precision, peak in peaks.items()},
    }


def _print_table(trainers: dict[str, dict[str, Any]]) -> None:
    print(f"{'trainer':34}{'texts/s':>9}{REFERENCE + ' is faster by':>24}{'lowest – highest':>20}{'of bf16 peak':>14}")
    for name, found in trainers.items():
        low_high = found["slower_low_high"]
        spread = "–" if low_high is None else f"{low_high[0]:.2f} – {low_high[1]:.2f}"
        share = found["share_of_peak"].get("bf16")
        print(
            f"{name:34}{found['texts_per_s']:>9.1f}{cell(found['slower'], '.2f'):>24}{spread:>20}{cell(share, '.0%'):>14}"
        )


if __name__ == "__main__":
    main()
