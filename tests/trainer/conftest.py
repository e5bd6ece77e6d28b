"""What several tests of the trainer share: rows that a tiny model learns, a function that trains on them, and a loss with its gradients."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtime.encode import Batch
from trainer import loop
from trainer.config import TrainConfig
from trainer.packed import Packed
from trainer.padded import Padded

from .runs import Run

WORDS = ("refund", "parcel", "invoice", "password")


@pytest.fixture
def files(tmp_path: Path, texts: list[str]) -> dict[str, str]:
    """Give --train and --eval: 48 and 24 short texts whose label, among four, a word tells."""
    rows = [
        {"text": f"{WORDS[index % 4]} {' '.join(texts[index].split()[:6])}", "label": "abcd"[index % 4]}
        for index in range(72)
    ]
    for name, part in (("train", rows[:48]), ("eval", rows[48:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "eval")}


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report out: its plots take longer than trainings of tiny models."""
    monkeypatch.setattr("trainer.finish.write_report", lambda run, **_: None)
    monkeypatch.setattr("trainer.finish.write_sections", lambda shipped, **_: [])


@pytest.fixture
def train(
    files: dict[str, str],
    make_encoder_folder: Callable[[str], Path],
    tmp_path: Path,
    without_report: None,
) -> Run:
    """Give a function that trains on those files, three steps an epoch: settings → run folder; `said` of the function gets the lines."""
    said: list[str] = []

    def run(output: str = "run", *, family: str = "bert", **settings: Any) -> Path:
        given = {"model": str(make_encoder_folder(family)), "epochs": 2, "batch_size": 16, "precision": "fp32"}
        config = TrainConfig(**{**given, **files, "device": "cpu", "output": tmp_path / output, **settings})
        loop.train(config, say=said.append)
        return config.output

    run.said = said  # type: ignore[attr-defined]
    return run


@pytest.fixture
def loss_and_gradients() -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Give a function: (network, texts, per_token) → the sum of the cross-entropies of fixed targets among five, and its gradients by name."""

    def compute(network: Padded | Packed, texts: Batch, *, per_token: bool) -> tuple[Any, dict[str, Any]]:
        targets = [np.arange(length if per_token else 1) % 5 for length in texts.lengths.tolist()]
        stacked = network.stack(targets if per_token else [target[0] for target in targets], texts.lengths)
        network.zero_grad()
        logits = network(network.feed(texts))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), stacked.flatten(), reduction="sum")
        loss.backward()
        return loss.detach(), {name: p.grad for name, p in network.model.named_parameters() if p.grad is not None}

    return compute
