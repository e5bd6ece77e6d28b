"""Evaluations of a run: which weights they keep, when they end it, and what is learned from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runtime.errors import InputError
from trainer import evaluate, states
from trainer.checkpoint import open_run, read_record

from .runs import Run, evaluations

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
