"""The training program as a whole, with tiny random models: what a run leaves behind, and that its figures are true."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from runtime.bundle import sha256
from runtime.tasks import softmax
from trainer.__main__ import main
from trainer.checkpoint import open_run, read_record
from trainer.device import _has_bf16
from trainer.errors import TrainingError
from trainer.objectives import OBJECTIVES

from .runs import Run, evaluations, history, same_weights

SHAPES = {"single-label": "single-label", "multi-label": "multi-label", "regression": "regression", "token": "token", "pair": "single-label"}  # fmt: skip


# what a run leaves behind


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_every_task_trains_into_a_hugging_face_folder(shape: str, make_run: Callable[[str, str], Path]) -> None:
    run, objective = make_run("bert", shape), OBJECTIVES[SHAPES[shape]]
    record = read_record(run)
    assert record.complete
    assert record.step == record.total_steps == (1 if shape == "pair" else 6)
    assert record.model_sha256 == sha256(run / "model.safetensors")
    assert record.eval is not None
    assert record.test is not None
    assert tuple(record.eval) == tuple(record.test) == objective.metrics
    best = evaluations(run)[record.best_step or 0]
    if objective.standardised:  # the head was multiplied out and back
        assert best == pytest.approx(record.eval, rel=1e-5)
    elif record.calibration is None or record.calibration.thresholds is None:
        assert best == record.eval
    else:  # counted from a half while training, and from the learned thresholds as it is shipped
        assert best["map"] == pytest.approx(record.eval["map"], abs=1e-3), (
            "their order is the same, but for fp32's ties"
        )
        assert best["micro_f1"] < record.eval["micro_f1"]
    assert {file.name for file in run.iterdir()} >= {"tokenizer.json", "train_config.json", "metrics.jsonl", "report.html"}  # fmt: skip
    assert not (run / "checkpoints").exists(), "disks are not filled"

    model = getattr(transformers, objective.auto_model).from_pretrained(run)
    assert model.config.id2label == dict(enumerate(record.labels))
    assert model.config.problem_type == objective.problem_type
    assert len(transformers.AutoTokenizer.from_pretrained(run)) == model.config.vocab_size


@pytest.mark.slow
def test_plain_transformers_code_finds_the_same_accuracy(make_run: Callable[[str, str], Path]) -> None:
    """The reference: AutoTokenizer and AutoModel, one text after the other."""
    run = make_run("bert", "single-label")
    checkpoint = open_run(run)
    tokenizer = transformers.AutoTokenizer.from_pretrained(run)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(run).eval()
    records = checkpoint.evaluation_records(None)
    assert records is not None
    right, logits = 0, []
    for record in records:
        feeds = tokenizer(record.text, truncation=True, max_length=checkpoint.max_length, return_tensors="pt")
        with torch.no_grad():
            logits.append(model(**feeds).logits[0].numpy())
        right += model.config.id2label[int(logits[-1].argmax())] == record.label
    accuracy = (read_record(run).eval or {})["accuracy"]
    assert accuracy == pytest.approx(right / len(records), abs=1.5 / len(records))  # random weights: one may be a tie
    truth = np.array([checkpoint.labels.index(record.label or "") for record in records])
    expected = OBJECTIVES["single-label"].measure(logits, records, None, checkpoint.labels)
    assert expected.values["accuracy"] == right / len(records) == (softmax(np.stack(logits)).argmax(1) == truth).mean()


def test_labels_keep_their_order_into_the_checkpoint_also_unused_ones(train: Run) -> None:
    labels = ("d", "unused", "a", "10", "c", "b")
    run = train(labels=labels, epochs=1)
    settings = json.loads((run / "config.json").read_text())
    assert settings["id2label"] == {str(index): label for index, label in enumerate(labels)}
    assert read_record(run).labels == open_run(run).labels == labels


def test_the_lines_for_people_say_what_was_chosen(train: Run) -> None:
    train(epochs=1)
    told = "\n".join(train.said)  # type: ignore[attr-defined]
    assert "48 rows to train on, 24 to evaluate on, 0 to test on" in told
    assert re.search(r"^CPU, \d+ threads, fp32$", told, re.MULTILINE)
    assert "new weights: classifier.bias, classifier.weight" in told
    assert "step 3/3: accuracy" in told


def test_truncated_texts_are_counted(train: Run) -> None:
    train(epochs=1, max_length=6)
    told = "\n".join(train.said)  # type: ignore[attr-defined]
    assert "warning: 48 of 48 train texts are cut at --max-length" in told


# learning


def test_a_small_task_is_learnt_and_the_loss_falls(train: Run) -> None:
    run = train(epochs=20, learning_rate=3e-3)
    losses = [line["loss"] for line in history(run) if "loss" in line]
    assert losses[-1] < losses[0] / 2
    assert (read_record(run).eval or {})["accuracy"] >= 0.9
    assert not read_record(run).collapsed


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, True),
        ({"epochs": 7, "patience": 5}, True),  # ends between two lines of the log
        ({"batch_tokens": 100}, True),
        ({"focal_gamma": 2.0}, False),
    ],
    ids=str,
)
def test_a_run_that_learnt_nothing_says_so(settings: dict[str, float], told: bool, train: Run) -> None:
    run = train(**{"learning_rate": 1e-9, **settings})
    warned = any(line.startswith("warning: nothing was learnt") for line in train.said)  # type: ignore[attr-defined]
    assert warned == read_record(run).collapsed == told, "another loss is not comparable"


def test_the_first_loss_is_that_of_a_guess(train: Run) -> None:
    """ln 4 for four labels: sums are divided by the targets of the whole step, whatever it is computed in."""
    for accumulation in (1, 3):
        run = train(f"run{accumulation}", epochs=4, learning_rate=1e-9, gradient_accumulation=accumulation)
        assert next(line["loss"] for line in history(run) if "loss" in line) == pytest.approx(np.log(4), abs=0.1)


@pytest.mark.parametrize(
    ("settings", "rate", "told"),
    [
        ({}, 1e-4, "learning rate 0.0001, usual for a model 32 wide"),
        ({"lora_rank": 4}, 1e-3, "learning rate 0.001, usual for adapters on a model 32 wide"),
        ({"learning_rate": 3e-4}, 3e-4, None),
    ],
    ids=str,
)
def test_a_rate_that_is_not_given_is_the_usual_one_and_told(
    settings: dict[str, float], rate: float, told: str | None, train: Run
) -> None:
    run = train(schedule="constant", warmup_fraction=0.0, **settings)
    assert read_record(run).learning_rate == pytest.approx(rate)
    assert [line["learning_rate"] for line in history(run) if "loss" in line] == [pytest.approx(rate)]
    said = [line for line in train.said if line.startswith("learning rate")]  # type: ignore[attr-defined]
    assert said == ([told] if told else [])


def test_the_learning_rate_takes_its_course(train: Run) -> None:
    run = train(epochs=10, schedule="constant", warmup_fraction=0.5, learning_rate=1e-3)
    rates = {line["step"]: line["learning_rate"] for line in history(run) if "loss" in line}
    assert rates == pytest.approx({10: 1e-3 * 10 / 16, 20: 1e-3, 30: 1e-3})


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "cosine"},
        {"class_weights": "inverse"},
        {"label_smoothing": 0.1},
        {"max_grad_norm": 0.0},
        {"class_weights": "effective", "focal_gamma": 2.0},
        {"layer_decay": 0.8, "reinit_layers": 1},
        {"gradient_accumulation": 16},
        {"batch_tokens": 100, "gradient_accumulation": 2},
        {"class_weights": "inverse", "label_smoothing": 0.1, "labels": ("a", "b", "c", "d", "unused")},
    ],
    ids=str,
)
def test_settings_of_the_loss_and_the_steps_run_to_the_end(settings: dict[str, Any], train: Run) -> None:
    run = train(epochs=4, **settings)
    assert all(np.isfinite(line["loss"]) for line in history(run) if "loss" in line)
    assert read_record(run).complete


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(train: Run) -> None:
    first, again, other = train("a", seed=1), train("b", seed=1), train("c", seed=2)
    assert same_weights(first, again)
    assert evaluations(first) == evaluations(again)
    assert not same_weights(first, other)


@pytest.mark.skipif(not _has_bf16("cpu"), reason="this CPU has no bf16")
def test_bf16_trains_and_keeps_fp32_weights(train: Run) -> None:
    plain, mixed = train("fp32"), train("bf16", precision="bf16")
    weights, twin = (load_file(run / "model.safetensors") for run in (plain, mixed))
    assert {tensor.dtype for tensor in twin.values()} == {torch.float32}
    assert not same_weights(plain, mixed)
    for name, tensor in weights.items():
        torch.testing.assert_close(twin[name], tensor, atol=5e-3, rtol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_and_says_what_to_try(
    value: float, train: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = OBJECTIVES["single-label"]
    broken = replace(true, loss=lambda *arguments: true.loss(*arguments) * value)
    monkeypatch.setitem(OBJECTIVES, "single-label", broken)
    with pytest.raises(
        TrainingError, match=rf"the loss is {value} at step 1\. Lower --learning-rate \(it is 0\.0001\)"
    ):
        train()


# the command line


def test_the_command_prints_the_figures_and_the_next_step(
    files: dict[str, str],
    make_encoder_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shared = [f"--model={make_encoder_folder('bert')}", f"--output={run}", "--precision=fp32", "--epochs=1"]
    assert main([f"--train={files['train']}", f"--eval={files['eval']}", f"--test={files['eval']}", *shared]) == 0
    out = capsys.readouterr().out.splitlines()
    accuracy = (read_record(run).eval or {})["accuracy"]
    assert out[0].startswith(f"eval: accuracy {accuracy:.4f}, macro_f1 ")
    assert out[1].startswith(f"test: accuracy {accuracy:.4f}")
    assert out[2:] == [f"run: {run}", f"next: python -m export {run}"]
