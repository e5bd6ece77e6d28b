"""What several tests of the trainer share: rows that a tiny model learns, a function that trains on them, a loss with its gradients, and single steps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from runtime.encode import Batch
from trainer import loop
from trainer.batch_shapes import BatchShape
from trainer.config import TrainConfig
from trainer.device import choose_place
from trainer.losses import LossOptions
from trainer.objectives import OBJECTIVES
from trainer.packed import Packed
from trainer.padded import Padded
from trainer.step import Stepper

from .runs import Run

WORDS = ("refund", "parcel", "invoice", "password")
LENGTHS = (9, 9, 7, 7, 5, 3, 3, 2)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


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
    """Give a function: (network, texts, per_token, shape they are padded to) → the sum of the cross-entropies of fixed targets among five, and its gradients by name."""

    def compute(
        network: Padded | Packed, texts: Batch, *, per_token: bool, **shape: BatchShape
    ) -> tuple[Any, dict[str, Any]]:
        targets = [np.arange(length if per_token else 1) % 5 for length in texts.lengths.tolist()]
        stacked = network.stack(targets if per_token else [target[0] for target in targets], texts.lengths, **shape)
        network.zero_grad()
        logits = network(network.feed(texts, **shape))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), stacked.flatten(), reduction="sum")
        loss.backward()
        return loss.detach(), {name: p.grad for name, p in network.model.named_parameters() if p.grad is not None}

    return compute


@pytest.fixture
def make_stepper(make_encoder_folder: Callable[[str], Path]) -> Callable[..., Stepper]:
    """Give a function: (most texts that fit at once, error that is raised beyond, parts of a step, share that is dropped) → a stepper of a tiny BERT; its `said` is what it told people."""

    def make(fits: int = 99, error: Exception | None = None, num_parts: int = 1, dropout: float = 0.0) -> Stepper:
        folder = make_encoder_folder("bert")
        torch.manual_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=3, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
        )
        network = Packed(model, per_token=False, inputs=INPUTS)
        forward = network.forward

        def limited(packing: Any, noise: Any = None) -> Any:
            if len(packing.firsts) > fits:
                raise error or torch.OutOfMemoryError("CUDA out of memory")
            return forward(packing, noise=noise)

        network.forward = limited  # type: ignore[method-assign]
        ids = np.random.default_rng(0).integers(5, 300, sum(LENGTHS))
        said: list[str] = []
        stepper = Stepper(
            network=network,
            wrapped=network,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            objective=OBJECTIVES["single-label"],
            texts=Batch(ids, np.zeros_like(ids), np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int32)),
            targets=[np.array(index % 3, dtype=np.int64) for index in range(len(LENGTHS))],
            loss=LossOptions(),
            max_grad_norm=1.0,
            place=choose_place(device="cpu", precision="fp32"),
            seed=0,
            num_parts=num_parts,
            say=said.append,
        )
        stepper.said = said  # type: ignore[attr-defined]
        return stepper

    return make
