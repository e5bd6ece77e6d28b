"""A function that trains a run, by its type, one that lets it die, and what a run leaves behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer import states

Run = Callable[..., Path]


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def evaluations(run: Path) -> dict[int, dict[str, float]]:
    return {line["step"]: line["eval"] for line in history(run) if "eval" in line}


def same_weights(left: Path, right: Path) -> bool:
    one, two = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


def kill_at_save(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let a training die where it would save its n-th state."""
    save, saves = states.save_state, [0]

    def dying(*arguments: Any, **settings: Any) -> None:
        saves[0] += 1
        if saves[0] == number:
            raise KeyboardInterrupt
        save(*arguments, **settings)

    monkeypatch.setattr("trainer.run.save_state", dying)
