"""--tune: the best trial ships as the run its settings would give alone, and a search that was killed anywhere ends as the undisturbed one."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import InputError
from trainer import evaluate, finish, loop, run, search, siblings
from trainer.__main__ import main
from trainer.checkpoint import open_run, read_config, read_record
from trainer.config import TUNED, TrainConfig
from trainer.errors import RunError, TrainingError
from trainer.study import Study

WORDS = ("refund", "parcel", "invoice", "password")
TRIALS = 3


class Killed(BaseException):
    """What no program catches."""


@pytest.fixture(scope="module")
def flags(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], make_encoder_folder: Callable[[str], Path]
) -> list[str]:
    """Give the flags of a search on a small task that a word tells, without --output."""
    folder = tmp_path_factory.mktemp("rows")
    rows = [
        {"text": f"{WORDS[index % 4]} {' '.join(texts[index].split()[:4])}", "label": "abcd"[index % 4]}
        for index in range(88)
    ]
    for name, part in (("train", rows[:48]), ("eval", rows[48:72]), ("test", rows[72:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return [
        *(f"--{name}={folder / f'{name}.jsonl'}" for name in ("train", "eval", "test")),
        f"--model={make_encoder_folder('bert')}",
        "--epochs=3",
        "--batch-size=16",
        "--learning-rate=1e-3",
        "--save-steps=2",
        "--precision=fp32",
        "--device=cpu",
        f"--tune={TRIALS}",
    ]


@pytest.fixture(scope="module")
def undisturbed(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the run of a search that nothing disturbed."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main([*flags, f"--output={run}"]) == 0
    return run


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing while trials are killed again and again; the undisturbed run, made for all tests before, has its report."""
    monkeypatch.setattr(search, "write_section", lambda trials, **_: f"<p>{len(trials)} trials</p>")
    monkeypatch.setattr(
        "trainer.finish.write_report", lambda run, sections, **_: (run / "report.html").write_text(sections[-1])
    )


def figures(run: Path) -> dict[str, Any]:
    """Read tune.json without what a clock wrote."""
    found: dict[str, Any] = json.loads((run / "tune.json").read_text())
    for trial in found["trials"]:
        assert trial.pop("seconds") >= 0
    return found


def assert_same(run: Path, undisturbed: Path) -> None:
    for name in ("model.safetensors", "metrics.jsonl", "run.json", "config.json", "tokenizer.json"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert figures(run) == figures(undisturbed)
    settings, others = (json.loads((folder / "train_config.json").read_text()) for folder in (run, undisturbed))
    assert {**settings, "output": ""} == {**others, "output": ""}
    assert not list(run.glob("tune/*/model.safetensors")), "disks are not filled"
    assert not list(run.glob("tune/*/checkpoints"))


# what is kept


def test_the_best_trial_ships_and_every_trial_is_told(undisturbed: Path) -> None:
    found = figures(undisturbed)
    values = [trial["value"] for trial in found["trials"]]
    assert [trial["number"] for trial in found["trials"]] == [1, 2, 3]
    assert found["trials"][0]["settings"] == {"learning_rate": 1e-3, "batch_size": 16, "layer_decay": 1.0}
    assert len({trial["settings"]["learning_rate"] for trial in found["trials"]}) == TRIALS
    assert all(trial["value"] == max(trial["curve"]) for trial in found["trials"])
    assert values[found["kept"] - 1] == max(values)
    record = read_record(undisturbed)
    assert record.complete
    assert (record.eval or {})["accuracy"] == max(values)
    assert record.test is not None
    assert "<h2>Search for settings</h2>" in (undisturbed / "report.html").read_text()


def test_the_kept_runs_settings_give_that_run(undisturbed: Path, tmp_path: Path) -> None:
    config = open_run(undisturbed).config
    kept = figures(undisturbed)["trials"][figures(undisturbed)["kept"] - 1]
    assert {name: getattr(config, name) for name in TUNED} == kept["settings"]
    assert (config.tune, config.output) == (None, undisturbed)
    assert main([f"--config={undisturbed / 'train_config.json'}", f"--output={tmp_path / 'alone'}"]) == 0
    for name in ("model.safetensors", "metrics.jsonl", "run.json"):
        assert (tmp_path / "alone" / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_a_rate_that_is_not_given_is_searched_for_around_the_usual_one(flags: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    others = [flag for flag in flags if not flag.startswith("--learning-rate")]
    assert main([*others, "--tune=1", "--epochs=1", f"--output={run}", "--tune-over", "learning_rate"]) == 0
    assert figures(run)["trials"][0]["settings"] == {"learning_rate": 1e-4}
    assert figures(run)["space"]["learning_rate"]["high"] == pytest.approx(5e-4)


def test_a_search_with_a_model_that_is_none_is_refused(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [flag for flag in flags if not flag.startswith(("--learning-rate", "--model"))]
    assert main([*others, f"--model={tmp_path}", f"--output={tmp_path / 'run'}"]) == 1
    assert f"error: {tmp_path} has no configuration that can be read: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_not_named_stays_as_it_is(flags: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    named = ["--tune-over", "weight_decay", "label_smoothing"]
    assert main([*flags, "--tune=2", "--epochs=1", f"--output={run}", *named]) == 0
    second = read_config(run / "tune" / "2" / "train_config.json")
    assert (second.learning_rate, second.batch_size, second.layer_decay) == (1e-3, 16, 1.0)
    assert 0 < second.weight_decay <= 0.1
    assert second.weight_decay != 0.01
    assert 0 < second.label_smoothing <= 0.15
    assert set(figures(run)["space"]) == {"weight_decay", "label_smoothing"}


def test_no_test_row_is_looked_at_before_the_choice_is_made(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = tmp_path / "run", list[tuple[int, int]]()
    logits = evaluate.evaluate.__globals__["compute_logits"]

    def compute_logits(wrapped: Any, encoded: Any, **rest: Any) -> Any:
        done = run / "tune.json"
        seen.append((len(encoded.batch.lengths), len(figures(run)["trials"]) if done.is_file() else 0))
        return logits(wrapped, encoded, **rest)

    monkeypatch.setitem(evaluate.evaluate.__globals__, "compute_logits", compute_logits)
    assert main([*flags, f"--output={run}"]) == 0
    assert [trials for num_rows, trials in seen if num_rows == 16] == [TRIALS]
    assert len([num_rows for num_rows, _ in seen if num_rows == 24]) == 3 * TRIALS + 1


# trials that do not come to their end


def test_a_trial_that_falls_behind_is_stopped_and_its_disk_is_freed(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(Study, "is_behind", lambda self, curve: len(self.trials) == 1 and len(curve) == 2)
    assert main([*flags, f"--output={run}"]) == 0
    trials = figures(run)["trials"]
    assert [(trial["state"], len(trial["curve"])) for trial in trials] == [
        ("complete", 3),
        ("pruned", 2),
        ("complete", 3),
    ]
    assert "trial 2 of 3 is pruned" in capsys.readouterr().err
    assert not (run / "tune" / "2" / "checkpoints").exists()
    assert figures(run)["kept"] != 2


def test_a_trial_is_not_behind_at_its_last_evaluation(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing left to be saved by stopping it."""
    monkeypatch.setattr(Study, "is_behind", lambda self, curve: len(curve) == 3)
    assert main([*flags, "--tune=2", f"--output={tmp_path / 'run'}"]) == 0
    assert [trial["state"] for trial in figures(tmp_path / "run")["trials"]] == ["complete", "complete"]


def test_a_kill_between_an_evaluation_and_the_answer_does_not_save_a_trial(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = tmp_path / "run", list[int]()

    def is_behind(self: Study, curve: tuple[float, ...]) -> bool:
        if len(self.trials) == 1 and len(curve) == 2:
            asked.append(len(curve))
            if len(asked) == 1:
                raise Killed
            return True
        return False

    monkeypatch.setattr(Study, "is_behind", is_behind)
    with pytest.raises(Killed):
        main([*flags, f"--output={run}"])
    assert main([*flags, f"--output={run}", "--resume"]) == 0
    assert (figures(run)["trials"][1]["state"], len(figures(run)["trials"][1]["curve"])) == ("pruned", 2)
    assert len(asked) == 2, "it was not trained on to be asked a third time"


def test_a_trial_whose_loss_is_not_finite_does_not_end_the_search(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, train = tmp_path / "run", search.train

    def diverge(config: TrainConfig, **rest: Any) -> Any:
        if config.output.name == "1":
            raise TrainingError("the loss is nan at step 3. Lower --learning-rate.")
        return train(config, **rest)

    monkeypatch.setattr(search, "train", diverge)
    assert main([*flags, f"--output={run}"]) == 0
    first = figures(run)["trials"][0]
    assert (first["state"], first["value"], first["curve"]) == ("failed", None, [])
    assert first["reason"].startswith("the loss is nan at step 3")
    assert "warning: trial 1 of 3 cannot go on: the loss is nan" in capsys.readouterr().err
    assert figures(run)["kept"] in (2, 3)


def test_where_every_trial_fails_the_first_reason_is_told(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(config: TrainConfig, **rest: Any) -> Any:
        raise TrainingError("the loss is nan at step 3. Lower --learning-rate.")

    monkeypatch.setattr(search, "train", diverge)
    assert main([*flags, f"--output={tmp_path / 'run'}"]) == 1
    assert "error: none of the 3 trials came to its end. The first: the loss is nan" in capsys.readouterr().err


# kills


@pytest.mark.parametrize(
    ("place", "name", "moments"),
    [
        (run, "save_state", (1, 4, 9, 12)),  # in the middle of a trial, before its state is whole
        (run, "evaluate", (2, 5)),
        (search, "write_config", (1, 2)),  # the flags of the search; those of the kept run
        (search, "drop_weights", (1, 2)),
        (search, "write_synced", (1, 3, 4)),
        (Study, "add", (1, 2, 3)),
        (finish, "measure_shipped", (1,)),
        (finish, "publish", (1,)),
        (search, "ship", (1,)),
        (siblings, "take_over", (1,)),
    ],
)
def test_a_search_that_was_killed_ends_as_the_undisturbed_one(
    place: Any,
    name: str,
    moments: tuple[int, ...],
    flags: list[str],
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at each moment in turn, counted over all attempts."""
    run, true, calls = tmp_path / "run", getattr(place, name), list[str]()

    def killed(*arguments: Any, **rest: Any) -> Any:
        calls.append(name)
        if len(calls) in moments:
            raise Killed
        return true(*arguments, **rest)

    monkeypatch.setattr(place, name, killed)
    for attempt in range(len(moments)):
        with pytest.raises(Killed):
            main([*flags, f"--output={run}", *(["--resume"] if attempt else [])])
    assert main([*flags, f"--output={run}", "--resume"]) == 0
    assert_same(run, undisturbed)


def test_ctrl_c_in_a_trial_says_how_to_go_on_and_the_search_ends_as_the_undisturbed_one(
    flags: list[str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run, steps = tmp_path / "run", list[int]()

    def asked_to_stop(requested: bool, place: Any) -> bool:
        steps.append(1)
        return len(steps) in (4, 14)  # of the first trial and, after going on, of the second

    monkeypatch.setattr(loop, "_any_process", asked_to_stop)
    assert main([*flags, f"--output={run}"]) == 130
    assert "Go on with the same command and --resume." in capsys.readouterr().err
    assert main([*flags, f"--output={run}", "--resume"]) == 130
    assert main([*flags, f"--output={run}", "--resume"]) == 0
    assert_same(run, undisturbed)


def test_trials_that_are_done_are_not_done_again(
    flags: list[str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, true, trained = tmp_path / "run", search.train, list[tuple[str, bool]]()

    def train(config: TrainConfig, **rest: Any) -> Any:
        trained.append((config.output.name, config.resume))
        if len(trained) == 2:
            raise Killed
        return true(config, **rest)

    monkeypatch.setattr(search, "train", train)
    with pytest.raises(Killed):
        main([*flags, f"--output={run}"])
    assert main([*flags, f"--output={run}", "--resume"]) == 0
    kept = str(figures(run)["kept"])
    assert trained == [("1", False), ("2", False), ("2", False), ("3", False), (kept, True)]
    assert_same(run, undisturbed)


def test_a_kill_between_the_kept_flags_and_the_record_is_gone_on_with_by_the_flags_of_the_search(
    flags: list[str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """RUN/train_config.json is then no longer the search's."""
    run = tmp_path / "run"
    monkeypatch.setattr(search, "ship", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        main([*flags, f"--output={run}"])
    monkeypatch.undo()
    assert read_config(run / "train_config.json").tune is None
    assert main([*flags, "--tune=4", f"--output={run}", "--resume"]) == 1
    assert "--tune was 3, is 4" in capsys.readouterr().err
    assert main([*flags, f"--output={run}", "--resume"]) == 0
    assert_same(run, undisturbed)


# what is refused


def test_a_search_that_is_complete_is_not_resumed(flags: list[str], undisturbed: Path) -> None:
    with pytest.raises(RunError, match="is complete; there is nothing to resume"):
        search.search(read_search(undisturbed), say=lambda line: None)


def read_search(run: Path) -> TrainConfig:
    """Read the flags of a search, with --resume."""
    from dataclasses import replace

    return replace(read_config(run / "tune" / "train_config.json"), output=run, resume=True)


def test_several_processes_are_refused(flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(flags) == 1
    assert "error: --tune 3 is for one process. Search with one, then train" in capsys.readouterr().err


def test_without_optuna_the_pip_command_is_told_before_anything_is_written(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main([*flags, f"--output={tmp_path / 'run'}"]) == 1
    assert capsys.readouterr().err == "error: --tune 3 needs Optuna: pip install 'portabert[tune]'\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tune": 0}, "--tune must be a positive integer. Got 0 instead"),
        ({"tune": 5, "seeds": 2}, "--tune and --seeds exclude each other.* Got 2 instead"),
        ({"tune": 5, "patience": 2}, "--patience cannot be used with --tune.* Got 2 instead"),
        ({"tune": 5, "train": "a.csv", "eval_fraction": 0.0}, "--tune needs rows to choose by.* Got 5 instead"),
        (
            {"tune": 5, "batch_tokens": 900},
            "--batch-tokens with --tune needs a --tune-over without batch_size. Got 900",
        ),
        ({"tune": 5, "eval_steps": 10}, "--eval-steps with --tune needs a --tune-over without batch_size.* Got 10"),
        ({"tune": 5, "tune_over": ()}, r"--tune-over must be different names. Got \(\) instead"),
        ({"tune": 5, "tune_over": ("batch_size",) * 2}, "--tune-over must be different names. Got"),
        (
            {"tune": 5, "tune_over": ("label_smoothing",), "task": "multi-label"},
            "--tune-over label_smoothing is for .*Got 'multi-label'",
        ),
        ({"tune_over": ("batch_size",)}, r"--tune-over needs --tune, the number of trials. Got \('batch_size',\)"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_value(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        TrainConfig(**settings).validate()


@pytest.mark.parametrize(
    "settings",
    [{"tune": 1}, {"tune": 5, "eval_steps": 10, "tune_over": ("learning_rate",)}, {"tune": 5, "task": "regression"}],
)
def test_what_makes_sense_is_let_through(settings: dict[str, Any]) -> None:
    TrainConfig(**settings).validate()
