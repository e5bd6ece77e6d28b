"""Scores of any unit: learned alike, kept as what they are."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export.reference import Reference
from trainer import losses
from trainer.checkpoint import open_run, read_record
from trainer.scale import Scale, find_scale
from trainer.states import latest_state

from .runs import Run, evaluations, history

HEADS = {"bert": "classifier", "roberta": "classifier.out_proj", "gpt2": "score"}
SCORES = {"a": 0.0, "b": 0.25, "c": 0.5, "d": 1.0}  # of the labels of the fixture `files`


@pytest.fixture
def train_on(train: Run, files: dict[str, str], tmp_path: Path) -> Run:
    """Give a function that trains on SCORES times `factor` and `offset` more: → run folder."""

    def run(output: str = "run", *, factor: float = 1.0, offset: float = 0.0, **settings: Any) -> Path:
        for name, file in files.items():
            rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
            scored = [{"text": row["text"], "score": SCORES[row["label"]] * factor + offset} for row in rows]
            (tmp_path / f"{output}-{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
        sources = {name: str(tmp_path / f"{output}-{name}.jsonl") for name in files}
        return train(output, **{"task": "regression", "epochs": 4, "learning_rate": 1e-3, **sources, **settings})

    return run


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def answers_of(run: Path) -> np.ndarray[Any, Any]:
    """What the model of a run's folder answers to its evaluation rows."""
    checkpoint = open_run(run)
    records = checkpoint.evaluation_records(None)
    assert records is not None
    encoded = checkpoint.encoder().encode([record.model_input for record in records])
    return np.concatenate(Reference.load(checkpoint).logits(encoded))


def test_logits_stand_for_scores_and_back() -> None:
    scores = [np.array(score, dtype=np.float32) for score in (1990.0, 2000.0, 2020.0)]
    scale = find_scale(scores, centred=True)
    assert scale == pytest.approx(Scale(2003.3333, 12.4722), rel=1e-4)
    standardised = scale.standardise(scores)
    assert losses.constant_square_error(standardised, standardised) == pytest.approx(1.0)
    assert np.mean(standardised) == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(scale.to_scores([target[None] for target in standardised]), np.stack(scores)[:, None])


def test_a_head_without_a_bias_keeps_the_mean() -> None:
    assert find_scale([np.array(3.0), np.array(4.0)], centred=False) == (0.0, pytest.approx(12.5**0.5))


def test_scores_that_are_all_the_same_are_not_divided_by_nothing() -> None:
    assert find_scale([np.array(3.0), np.array(3.0)], centred=True) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", {"lora_rank": 4}),
        ("bert", {"average": 3}),
        ("bert", {"quant_aware": 1}),
        *((family, {}) for family in HEADS),
    ],
    ids=str,
)
def test_the_unit_of_the_scores_changes_no_step(family: str, settings: dict[str, Any], train_on: Run) -> None:
    offset = 0.0 if family == "gpt2" else 4096.0  # GPT-2's head has no bias
    small = train_on("small", family=family, **settings)
    large = train_on("large", family=family, factor=1024.0, offset=offset, **settings)
    small_losses, large_losses = ([line["loss"] for line in history(run) if "loss" in line] for run in (small, large))
    np.testing.assert_allclose(small_losses, large_losses, rtol=1e-4)
    head = HEADS[family]
    for name, weight in weights_of(small).items():
        expected = weight
        if name.startswith(head):
            expected = weight * 1024 + (offset if name.endswith("bias") else 0)
        torch.testing.assert_close(weights_of(large)[name], expected, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("family", HEADS)
def test_what_is_kept_answers_in_scores(family: str, train_on: Run) -> None:
    run = train_on(family=family, factor=100.0)
    truth = [json.loads(line)["score"] for line in (run.parent / "run-eval.jsonl").read_text().splitlines()]
    errors = answers_of(run) - truth
    recorded = read_record(run).eval
    assert recorded is not None
    assert np.sqrt(np.square(errors).mean()) == pytest.approx(recorded["rmse"], rel=1e-4)
    assert recorded["rmse"] < 52, "answers in standard deviations would be 57 from the truth"


def test_training_goes_on_from_the_bits_that_were_there_before_weights_were_kept(train_on: Run) -> None:
    often = train_on("often", factor=100.0, eval_steps=1)
    once = train_on("once", factor=100.0, eval_steps=12)
    last = evaluations(often)[12], evaluations(once)[12]
    assert last[0] == last[1]


def test_a_run_that_is_gone_on_from_begins_with_what_it_answered(train_on: Run) -> None:
    first = train_on("first", factor=100.0)
    again = train_on("again", factor=100.0, model=str(first), learning_rate=1e-12, epochs=1)
    torch.testing.assert_close(answers_of(again), answers_of(first), rtol=1e-4, atol=1e-3)


def test_a_state_is_of_the_model_in_training(train_on: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is resumed from is not what is kept, whose head was multiplied and would be rounded twice."""
    monkeypatch.setattr("trainer.finish.shutil", SimpleNamespace(rmtree=lambda folder: None))
    run = train_on(factor=1024.0, epochs=1)
    file = latest_state(run / "checkpoints")
    assert file is not None
    state = torch.load(file, weights_only=True)["model"]
    deviation = np.std(list(SCORES.values())) * 1024
    kept = weights_of(run)["classifier.weight"]
    assert not torch.equal(kept, state["classifier.weight"])
    torch.testing.assert_close(kept, state["classifier.weight"] * deviation)


def test_people_are_told(train_on: Run, train: Run) -> None:
    train_on(factor=100.0, epochs=1)
    assert "scores are learned as differences from 43.75, in units of 36.98" in train.said  # type: ignore[attr-defined]


def test_other_tasks_are_trained_as_they_were(train: Run, make_encoder_folder: Callable[[str], Path]) -> None:
    train(epochs=1)
    assert not any("scores are learned" in line for line in train.said)  # type: ignore[attr-defined]


def test_scores_of_a_large_unit_that_were_not_learnt_are_found_out(train_on: Run) -> None:
    """By the very rows of the last steps: the errors of few rows may be far from those of all."""
    assert read_record(train_on("nothing", factor=100.0, learning_rate=1e-9, epochs=10)).collapsed
