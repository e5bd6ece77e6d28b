"""--quant-aware: the last epochs compute in int8, and the best weights are chosen by what they answer in it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from runtime.errors import InputError
from trainer import loop
from trainer.checkpoint import open_run, read_record
from trainer.config import TrainConfig
from trainer.errors import ModelError
from trainer.packed import Packed
from trainer.step import Stepper

from .runs import history

EPOCHS = 3


@pytest.fixture
def config(
    files: dict[str, str],
    make_encoder_folder: Callable[[str], Path],
    tmp_path: Path,
    without_report: None,
) -> Callable[..., TrainConfig]:
    """Give a function: settings → how to train a tiny model on 48 texts, 24 to evaluate on."""

    def make(output: str = "run", *, family: str = "bert", **settings: Any) -> TrainConfig:
        usual = {"epochs": EPOCHS, "batch_size": 16, "precision": "fp32", "device": "cpu", "quant_aware": 1}
        return TrainConfig(
            **{"model": str(make_encoder_folder(family)), **usual, **files, "output": tmp_path / output, **settings}
        )

    return make


def train(config: TrainConfig) -> Path:
    loop.train(config, say=lambda line: None)
    return config.output


def test_only_the_last_epochs_compute_in_int8(
    config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[bool, bool]] = []
    forward = Packed.forward

    def spy(self: Packed, *arguments: Any, **named: Any) -> torch.Tensor:
        passes.append((self.training, self.trains_in_int8 if self.training else self.answers_in_int8))
        return forward(self, *arguments, **named)

    monkeypatch.setattr(Packed, "forward", spy)
    train(config())
    training = [in_int8 for trains, in_int8 in passes if trains]
    assert training == [False] * 6 + [True] * 3, "three steps an epoch"
    assert all(in_int8 for trains, in_int8 in passes[2:] if not trains), "but for the try of the packed pass"


def test_the_figures_are_those_of_int8(config: Callable[..., TrainConfig]) -> None:
    run = train(config())
    checkpoint, record = open_run(run), read_record(run)
    records = checkpoint.evaluation_records(None)
    assert records is not None
    encoded = checkpoint.encoder().encode([r.model_input for r in records])
    answers = checkpoint.int8_logits(encoded)
    assert answers is not None
    measured = checkpoint.objective.measure(answers, records, encoded.tokens, checkpoint.labels)
    assert record.eval == pytest.approx(measured.values)


def test_it_trains_otherwise_than_without(config: Callable[..., TrainConfig]) -> None:
    with_it, without = (train(config(f"run-{epochs}", quant_aware=epochs)) for epochs in (EPOCHS, 0))
    one, other = (load_file(run / "model.safetensors") for run in (with_it, without))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 0.05, "int8 is nearly exact"


@pytest.mark.parametrize("stopped_at", [4, 8])  # before the epoch in int8, and within it
def test_a_resumed_run_ends_as_the_undisturbed_one(
    config: Callable[..., TrainConfig], stopped_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(config("undisturbed", save_steps=1))
    take, steps = Stepper.take, []

    def stop(self: Any, step: int, indices: Any) -> torch.Tensor:
        if step == stopped_at and not steps:
            steps.append(step)
            raise KeyboardInterrupt  # before the step: as a kill would leave the folder
        return take(self, step, indices)

    monkeypatch.setattr(Stepper, "take", stop)
    with pytest.raises(KeyboardInterrupt):
        train(config("killed", save_steps=1))
    resumed = train(config("killed", save_steps=1, resume=True))
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (resumed / name).read_bytes() == (undisturbed / name).read_bytes()
    shutil.rmtree(resumed)


def test_a_model_without_a_packed_pass_is_refused(config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(ModelError, match=r"--quant-aware needs a packed pass, which .*mpnet.* has not \(bert,"):
        train(config(family="mpnet"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quant_aware": 4}, r"--quant-aware must be from 0 to --epochs \(3\). Got 4 instead"),
        ({"quant_aware": -1}, "Got -1 instead"),
        ({"patience": 2}, "--quant-aware and --patience exclude each other: .* Got 2 instead"),
    ],
)
def test_settings_that_cannot_be(config: Callable[..., TrainConfig], settings: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        config(**settings).validate()


def test_int8_learns_what_fp32_learns(config: Callable[..., TrainConfig]) -> None:
    """All epochs in int8, at a rate that teaches in few steps: the texts' first word tells their label."""
    run = train(config(epochs=30, quant_aware=30, learning_rate=3e-3))
    record = read_record(run)
    assert record.eval is not None
    assert record.eval["accuracy"] > 0.9
    losses = [line["loss"] for line in history(run) if "loss" in line]
    assert np.mean(losses[-2:]) < 0.5 * losses[0]
