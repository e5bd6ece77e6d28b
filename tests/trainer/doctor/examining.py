"""Rows that are written to files and examined by the data doctor, for the tests of its rules."""

import json
from pathlib import Path
from typing import Any

from trainer.doctor.check import read_dataset
from trainer.doctor.config import CheckConfig
from trainer.doctor.finding import Finding
from trainer.doctor.rules import examine

SPLITS = ("train", "eval", "test")
SOUND = [{"text": f"{word} number {number}", "label": label} for word, label in (("apple", "fruit"), ("carrot", "root")) for number in range(12)]  # fmt: skip


def examined(folder: Path, *splits: list[dict[str, Any]], rules: tuple[str, ...] = (), **flags: Any) -> list[Finding]:
    """Write splits as JSON lines and examine them."""
    files = {}
    for name, rows in zip(SPLITS, splits, strict=False):
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files[name] = str(file)
    return found_in(CheckConfig(**files, **flags), asked=rules)


def found_in(config: CheckConfig, asked: tuple[str, ...] = ()) -> list[Finding]:
    config.validate()
    return examine(read_dataset(config), quick=False, asked=asked).findings


def of(rule: str, findings: list[Finding]) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(found.split, found.count, found.lines) for found in findings if found.rule == rule]


def text(content: str, label: str = "fruit") -> dict[str, Any]:
    return {"text": content, "label": label}
