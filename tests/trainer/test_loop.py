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
from runtime.errors import InputError
from runtime.tasks import softmax
from trainer import evaluate, loop, states
from trainer.__main__ import main
from trainer.checkpoint import open_run, read_record
from trainer.config import TrainConfig
from trainer.device import _has_bf16
from trainer.errors import ModelError, RunError, TrainingError
from trainer.objectives import OBJECTIVES

SHAPES = {"single-label": "single-label", "multi-label": "multi-label", "regression": "regression", "token": "token", "pair": "single-label"}  # fmt: skip

Run = Callable[..., Path]


@pytest.fixture
def train(
    files: dict[str, str],
    make_encoder_folder: Callable[[str], Path],
    tmp_path: Path,
    without_report: None,
) -> Run:
    """Give a function that trains on those files: settings → run folder; `said` of the function gets the lines."""
    said: list[str] = []

    def run(output: str = "run", **settings: Any) -> Path:
        given = {"model": str(make_encoder_folder("bert")), "epochs": 2, "batch_size": 16, "precision": "fp32"}
        config = TrainConfig(**{**given, **files, "device": "cpu", "output": tmp_path / output, **settings})
        loop.train(config, say=said.append)
        return config.output

    run.said = said  # type: ignore[attr-defined]
    return run


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def evaluations(run: Path) -> dict[int, dict[str, float]]:
    return {line["step"]: line["eval"] for line in history(run) if "eval" in line}


def same_weights(left: Path, right: Path) -> bool:
    one, two = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


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
    if record.calibration is None or record.calibration.thresholds is None:
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


def test_the_first_loss_is_that_of_a_guess(train: Run) -> None:
    """ln 4 for four labels: sums are divided by the targets of the whole step, whatever it is computed in."""
    for accumulation in (1, 3):
        run = train(f"run{accumulation}", epochs=4, learning_rate=1e-9, gradient_accumulation=accumulation)
        assert next(line["loss"] for line in history(run) if "loss" in line) == pytest.approx(np.log(4), abs=0.1)


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
        {"batch_size": 32, "batch_tokens": 100, "gradient_accumulation": 2},
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


# evaluating and choosing


@pytest.fixture
def told_metrics(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that makes the n-th evaluation say what it is told, and the ones behind the last what is true."""
    true = evaluate.evaluate

    def tell(name: str, *values: float) -> None:
        left = list(values)

        def evaluate(*arguments: Any, **settings: Any) -> Any:
            metrics = true(*arguments, **settings)
            return metrics._replace(values={**metrics.values, name: left.pop(0)}) if left else metrics

        monkeypatch.setattr("trainer.run.evaluate", evaluate)

    return tell


def kept_weights(monkeypatch: pytest.MonkeyPatch) -> dict[int, torch.Tensor]:
    """Note the classifier's weights whenever they are saved as the best so far."""
    kept: dict[int, torch.Tensor] = {}
    save = states.save_best

    def note(folder: Path, step: int, *, model: Any, tokenizer: Any) -> None:
        kept[len(kept)] = model.state_dict()["classifier.weight"].clone()
        save(folder, step, model=model, tokenizer=tokenizer)

    monkeypatch.setattr("trainer.run.save_best", note)
    return kept


@pytest.mark.parametrize(
    ("name", "values", "best_step", "times"),
    [
        (None, (0.5, 0.9, 0.7, 0.9), 6, 2),  # the first of equals
        ("macro_f1", (0.1, 0.2, 0.3, 0.4), 12, 4),
        ("accuracy", (0.9, 0.1, 0.1, 0.1), 3, 1),
    ],
)
def test_the_weights_of_the_best_evaluation_are_kept(
    name: str | None,
    values: tuple[float, ...],
    best_step: int,
    times: int,
    train: Run,
    told_metrics: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told_metrics(name or "accuracy", *values)
    kept = kept_weights(monkeypatch)
    run = train(epochs=4, best_metric=name)
    assert read_record(run).best_step == best_step
    assert len(kept) == times
    assert torch.equal(load_file(run / "model.safetensors")["classifier.weight"], kept[times - 1])


def test_the_final_figures_are_those_of_the_best_step(train: Run) -> None:
    run = train(epochs=6, learning_rate=3e-3, eval_steps=2, schedule="constant")
    record = read_record(run)
    found = evaluations(run)
    assert list(found) == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    best = max(metrics["accuracy"] for metrics in found.values())
    assert record.best_step == next(step for step, metrics in found.items() if metrics["accuracy"] == best)
    assert record.eval == found[record.best_step]


def test_an_error_is_better_when_lower(
    files: dict[str, str], train: Run, told_metrics: Callable[..., None], tmp_path: Path
) -> None:
    for name, file in files.items():
        rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
        (tmp_path / f"{name}-scores.jsonl").write_text(
            "".join(json.dumps({"text": row["text"], "score": index / 48}) + "\n" for index, row in enumerate(rows))
        )
    told_metrics("rmse", 0.5, 0.2, 0.4)
    scores = {name: str(tmp_path / f"{name}-scores.jsonl") for name in files}
    run = train(task="regression", best_metric="rmse", epochs=3, **scores)
    assert read_record(run).best_step == 6


def test_a_metric_that_the_task_does_not_have_is_refused_before_anything_is_done(
    train: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("trainer.prepare.load_data", lambda config: pytest.fail("no row must be read"))
    with pytest.raises(InputError, match=r"--best-metric must be one of accuracy, macro_f1 .*Got 'f1' instead"):
        train(best_metric="f1")
    assert not (tmp_path / "run").exists()


def test_patience_ends_a_run_that_gets_no_better(train: Run, told_metrics: Callable[..., None]) -> None:
    told_metrics("accuracy", 0.6, 0.5, 0.4)
    run = train(epochs=8, patience=2)
    record = read_record(run)
    assert (record.complete, record.step, record.total_steps, record.best_step) == (True, 9, 24, 3)
    assert "stopped early: 2 evaluations without a better accuracy than step 3's" in train.said  # type: ignore[attr-defined]


def test_states_are_saved_as_often_as_asked_for(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr("trainer.run.save_state", lambda folder, *, progress, **_: saved.append(progress.step))
    train("a", epochs=3)
    train("b", epochs=3, save_steps=4)
    assert saved == [3, 6, 9, 4, 8, 9]


def test_a_run_is_whole_only_after_its_report(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[bool, bool]] = []
    monkeypatch.setattr(
        "trainer.finish.write_report",
        lambda run, **_: found.append(((run / "model.safetensors").is_file(), (run / "run.json").is_file())),
    )
    assert read_record(train(epochs=1)).complete
    assert found == [(True, False)]


def test_without_evaluation_the_last_weights_are_kept(train: Run, files: dict[str, str]) -> None:
    run = train(eval=None, eval_fraction=0.0, test=files["eval"])
    record = read_record(run)
    assert (record.complete, record.best_step, record.evaluation, record.eval) == (True, None, None, None)
    assert record.test is not None
    assert evaluations(run) == {}
    assert open_run(run).evaluation_records(None) is None


def test_rows_held_out_are_named_and_found_again(train: Run) -> None:
    run = train(eval=None, eval_fraction=0.25, epochs=1)
    checkpoint = open_run(run)
    records = checkpoint.evaluation_records(None)
    assert checkpoint.evaluation is not None
    assert checkpoint.evaluation.split == "holdout"
    assert records is not None
    assert len(records) == checkpoint.evaluation.num_rows == 12


# calibration


def many_rows(files: dict[str, str], tmp_path: Path) -> str:
    """Give a file with four times as many rows: enough to calibrate on."""
    file = tmp_path / "many.jsonl"
    file.write_text((Path(files["eval"]).read_text() + Path(files["train"]).read_text()) * 2)
    return str(file)


def test_what_was_learned_is_said_and_kept(train: Run, files: dict[str, str], tmp_path: Path) -> None:
    run = train(eval=many_rows(files, tmp_path), test=files["eval"], abstain_precision=0.1)
    learned = open_run(run).calibration
    assert learned is not None
    assert learned == read_record(run).calibration
    assert (learned.num_rows, learned.abstain_precision, set(learned.worth)) == (144, 0.1, {"eval", "test"})
    said: list[str] = train.said  # type: ignore[attr-defined]
    assert f"calibrated on 144 evaluation rows: temperature {learned.temperature:.3f}, abstains below" in "\n".join(
        said
    )
    assert [line[:9] for line in said[-2:]] == ["eval rows", "test rows"]


def test_a_precision_that_cannot_be_had_is_warned_of_and_the_run_is_whole(train: Run) -> None:
    record = read_record(train(abstain_precision=0.99))
    assert record.complete
    assert record.calibration is not None
    assert record.calibration.abstain_below is None
    few, unreached = train.said[-2:]  # type: ignore[attr-defined]
    assert few.startswith("warning: probabilities are left as they are: 100 evaluation rows are needed, there are 24")
    assert unreached.startswith("warning: --abstain-precision 0.99 is not reached, so no answer will be withheld")


def test_nothing_is_learned_where_it_is_not_wanted_or_there_are_no_rows(train: Run, files: dict[str, str]) -> None:
    assert read_record(train("off", calibrate=False)).calibration is None
    assert read_record(train("none", eval=None, eval_fraction=0.0, test=files["eval"])).calibration is None
    assert not [line for line in train.said if "calibra" in line]  # type: ignore[attr-defined]


# what goes wrong


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


@pytest.fixture
def old_run(train: Run) -> Path:
    return train(epochs=1)


def test_a_run_that_is_there_is_refused_and_replaced_when_asked(old_run: Path, train: Run) -> None:
    before = sha256(old_run / "model.safetensors")
    with pytest.raises(RunError, match=rf"{old_run} exists already\. .*--overwrite"):
        train(epochs=1, seed=5)
    assert sha256(old_run / "model.safetensors") == before
    (old_run / "mine.txt").write_text("left over")
    train(epochs=1, seed=5, overwrite=True)
    assert sha256(old_run / "model.safetensors") != before
    assert not (old_run / "mine.txt").exists()


@pytest.mark.parametrize(
    "settings",
    [{"model": "no/such/folder"}, {"max_length": 999}, {"train": "none.csv"}, {"labels": ("a", "b")}],
    ids=str,
)
def test_what_cannot_be_trained_does_not_cost_the_older_run(
    settings: dict[str, Any], old_run: Path, train: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = {file.name: sha256(file) for file in old_run.iterdir()}
    with pytest.raises((ModelError, InputError)):
        train(overwrite=True, **settings)
    assert {file.name: sha256(file) for file in old_run.iterdir()} == before
    with pytest.raises((ModelError, InputError)):
        train("new", **settings)
    assert not old_run.with_name("new").exists(), "and leaves no half of a new one"


def test_a_folder_that_is_no_run_is_never_replaced(train: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_bytes(b"png")
    with pytest.raises(RunError, match="photos is not a run of this program; it will not be replaced"):
        train("photos", overwrite=True)
    assert (tmp_path / "photos" / "me.png").exists()


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_in_the_place_of_a_run_is_refused(overwrite: bool, train: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match="taken is a file; a run is a folder"):
        train("taken", overwrite=overwrite)
    assert (tmp_path / "taken").read_text() == "a file"


def test_an_empty_folder_is_used(train: Run, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    assert read_record(train("mounted", epochs=1)).complete


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


def test_a_run_of_another_version_is_refused_with_the_fields_that_differ(old_run: Path) -> None:
    values = json.loads((old_run / "train_config.json").read_text())
    del values["epochs"]
    (old_run / "train_config.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"does not have the fields this version writes \(differing: epochs\)"):
        open_run(old_run)
