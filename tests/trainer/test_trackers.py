"""Trackers get what metrics.jsonl and timing.jsonl get, once a step however often a run was killed, and cost no run."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from runtime.errors import InputError
from trainer import loop, trackers
from trainer.config import TrainConfig
from trainer.trackers import FOLDER, IDS, KINDS, Entry, Kind, Opened, Trackers, figures, names_of

from .runs import kill_at_save

Train = Callable[..., Path]


@pytest.fixture
def train(
    make_encoder_folder: Callable[[str], Path], tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> Train:
    """Give a function that trains for 24 steps on 48 rows: settings → run folder; `said` of the function gets the lines."""
    monkeypatch.setattr("trainer.finish.write_report", lambda run, **_: None)
    monkeypatch.setattr(loop, "LOG_STEPS", 2)
    rows = [{"text": text, "label": "ab"[index % 2]} for index, text in enumerate(texts[:60])]
    for name, part in (("train", rows[:48]), ("eval", rows[48:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    said: list[str] = []

    def run(output: str = "run", **settings: Any) -> Path:
        given: dict[str, Any] = {"epochs": 4, "batch_size": 8, "precision": "fp32", "device": "cpu", "save_steps": 5}
        files = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "eval")}
        config = TrainConfig(
            model=str(make_encoder_folder("bert")), output=tmp_path / output, **{**given, **files, **settings}
        )
        loop.train(config, say=said.append)
        return config.output

    run.said = said  # type: ignore[attr-defined]
    return run


class Fake:
    """A tracker that keeps what it is told, and fails when it is told to."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int, str, float]] = []
        self.closed = 0
        self.fails_at: int | None = None
        self.known: dict[str, int] = {}

    def open(self, entry: Entry) -> Opened:
        self.entries.append(entry)
        return Opened(self, "id-7", self.close, dict(self.known))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, float], *, step: int) -> None:
        if self.fails_at is not None and step >= self.fails_at:
            raise ConnectionError("no route to the server\nand more")
        self.logged += [(step, name, value) for name, value in values.items()]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a fake in the place of W&B's."""
    tracker = Fake()
    monkeypatch.setitem(KINDS, "wandb", Kind("json", "pip install nothing", tracker.open))
    return tracker


def lines_of(run: Path) -> list[tuple[int, str, float]]:
    lines = [
        json.loads(line) for name in ("metrics", "timing") for line in (run / f"{name}.jsonl").read_text().splitlines()
    ]
    return [(line["step"], name, value) for line in lines for name, value in figures(line).items()]


def scalars(run: Path) -> list[tuple[int, str, float]]:
    events = EventAccumulator(str(run / FOLDER / "tensorboard"))
    events.Reload()
    return [(event.step, tag, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]


def same(left: list[tuple[int, str, float]], right: list[tuple[int, str, float]]) -> bool:
    left, right = sorted(left), sorted(right)
    assert [row[:2] for row in left] == [row[:2] for row in right]
    return [row[2] for row in left] == pytest.approx([row[2] for row in right], rel=1e-6)  # TensorBoard keeps fp32


def test_tensorboard_gets_every_figure_of_the_logs(train: Train) -> None:
    run = train(track=("tensorboard",))
    assert same(scalars(run), lines_of(run))
    names = {name for _, name, _ in lines_of(run)}
    assert names >= {"train/loss", "train/learning_rate", "train/epoch", "train/texts_per_s", "train/tokens_per_s", "eval/accuracy"}  # fmt: skip


def test_tensorboard_has_no_step_twice_after_a_kill(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at step 10 with a state of step 5: steps 6, 8 and 10 are logged a second time."""
    with monkeypatch.context() as patch:
        kill_at_save(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(track=("tensorboard",))
    assert max(step for step, _, _ in scalars(tmp_path / "run")) == 10
    run = train(track=("tensorboard",), resume=True)
    assert same(scalars(run), lines_of(run))


def test_a_tracked_run_is_the_untracked_one(train: Train, fake: Fake) -> None:
    plain, tracked = train("plain"), train("tracked", track=("wandb", "tensorboard"))
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (plain / name).read_bytes() == (tracked / name).read_bytes()
    assert not (plain / FOLDER).exists()


def test_a_resumed_run_goes_on_under_its_id_and_repeats_nothing_a_tracker_knows(
    train: Train, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at_save(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(track=("wandb",))
    assert fake.closed == 1
    fake.known = {name: step for step, name, _ in fake.logged}
    run = train(track=("wandb",), resume=True)
    assert [(entry.step, entry.id) for entry in fake.entries] == [(0, None), (5, "id-7")]
    assert json.loads((run / FOLDER / IDS).read_text()) == {"wandb": "id-7"}
    steps = [row[:2] for row in fake.logged]
    assert len(set(steps)) == len(steps)
    assert sorted(steps) == sorted(row[:2] for row in lines_of(run))


def test_tracking_may_begin_with_a_resumed_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        kill_at_save(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train()
    run = train(track=("tensorboard",), resume=True)
    assert same(scalars(run), [row for row in lines_of(run) if row[0] > 5])


def test_a_tracker_that_fails_is_warned_of_once_and_left_out(train: Train, fake: Fake) -> None:
    fake.fails_at = 6
    run = train(track=("wandb", "tensorboard"))
    told = [line for line in train.said if "--track" in line]  # type: ignore[attr-defined]
    assert told == [
        "warning: --track wandb failed and is left out from here on: no route to the server. The run goes on; metrics.jsonl has every figure"
    ]
    assert {step for step, _, _ in fake.logged} == {2, 4}
    assert same(scalars(run), lines_of(run))


def test_a_tracker_that_cannot_be_opened_costs_no_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(entry: Entry) -> Opened:
        raise RuntimeError

    monkeypatch.setitem(KINDS, "mlflow", Kind("json", "", refuse))
    run = train(track=("mlflow",))
    assert (run / "run.json").is_file()
    assert "--track mlflow failed and is left out from here on: RuntimeError" in "\n".join(train.said)  # type: ignore[attr-defined]


def test_a_missing_package_is_refused_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "wandb", KINDS["wandb"]._replace(package="not_here_1"))
    monkeypatch.setitem(KINDS, "tensorboard", KINDS["tensorboard"]._replace(package="not_here_2"))
    config = TrainConfig(output=tmp_path / "run", track=("wandb", "tensorboard"))
    with pytest.raises(InputError) as caught:
        loop.train(config, say=print)
    assert "--track wandb needs the package not_here_1: pip install wandb" in str(caught.value)
    assert "--track tensorboard needs the package not_here_2: pip install 'portabert[track]'" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_flags_are_sent_and_where_files_lie_is_not(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n")
    config = TrainConfig(
        train=str(tmp_path / "rows.csv"),
        test=f"hf:{tmp_path}/data:test",
        model="owner/name",
        labels=("a", "b"),
        output=tmp_path,
        track=("wandb",),
    )
    with Trackers(config, say=print) as opened:
        opened.start(0)
    assert fake.closed == 1
    sent = fake.settings
    assert (sent["train"], sent["test"], sent["model"], sent["labels"], sent["eval"], sent["epochs"]) == (
        "rows.csv",
        "hf:data:test",
        "owner/name",
        "a, b",
        "not set",
        10,
    )
    assert str(tmp_path) not in json.dumps(sent)
    assert not set(sent) & {"output", "config", "resume", "overwrite"}


@pytest.mark.parametrize(
    ("output", "project", "name"),
    [("/data/runs/mine", "runs", "mine"), ("/data/runs/mine/seeds/3", "runs", "mine-seed-3"), ("/data/runs/mine/tune/3", "runs", "mine-trial-3"), ("/mine", "portabert", "mine"), ("/a/b: c/d", "b--c", "d")],
)  # fmt: skip
def test_project_and_name_follow_from_the_runs_folder(output: str, project: str, name: str) -> None:
    assert names_of(Path(output)) == (project, name)


def test_wandb_takes_neither_what_is_printed_nor_programs_along() -> None:
    assert trackers.WANDB_KEEPS == {"console": "off", "disable_code": True, "disable_git": True}


def test_trackers_are_imported_only_where_they_are_asked_for() -> None:
    code = "import sys, trainer.loop; print([n for n in ('tensorboard', 'wandb', 'mlflow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
