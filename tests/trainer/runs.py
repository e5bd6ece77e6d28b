"""A function that trains a run, by its type, and what a run's metrics.jsonl says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Path]


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def evaluations(run: Path) -> dict[int, dict[str, float]]:
    return {line["step"]: line["eval"] for line in history(run) if "eval" in line}
