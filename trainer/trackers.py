"""Where else a run's figures go: TensorBoard, W&B, MLflow, through accelerate's trackers. Never rows, and never at the price of the run.

RUN/tracking/            what lies on this machine: TensorBoard's events, W&B's files, MLflow's database
RUN/tracking/runs.json   by which name each tracker knows the run, so that a resumed one goes on in it

A run that was killed repeats the steps since its last state, to the bit. So that none stands twice, TensorBoard is told which to forget (purge_step), W&B
drops what it has already, and MLflow, which would keep both, is asked first.
"""

import json
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from runtime.bundle import write_synced
from runtime.errors import InputError

from .checkpoint import SEEDS, TRIALS
from .config import TrainConfig

FOLDER, IDS = "tracking", "runs.json"
CHOSEN_FROM = {SEEDS: "seed", TRIALS: "trial"}  # folders of runs that one is chosen from
MLFLOW_URI = "MLFLOW_TRACKING_URI"  # MLflow's own variable: the server, where there is one
# Of what W&B would take along unasked: what is printed, programs, and differences to the last commit, in which rows may stand.
WANDB_KEEPS = {"console": "off", "disable_code": True, "disable_git": True}
NOT_SENT = ("config", "output", "overwrite", "resume", "track")  # they say nothing about the training


class Entry(NamedTuple):
    """A run as trackers are told of it.

    Attributes:
        project: what it belongs to.
        name: its own.
        folder: where a tracker's files may lie.
        step: how many steps are done.
        id: by which the tracker knows it already; None where it begins.
    """

    project: str
    name: str
    folder: Path
    step: int
    id: str | None


class Opened(NamedTuple):
    """A tracker at work.

    Attributes:
        tracker: accelerate's.
        id: by which it can be found again.
        close: ends it.
        known: the last step it has of each figure, where it would keep a second value of a step beside the first.
    """

    tracker: Any
    id: str
    close: Callable[[], None]
    known: Mapping[str, int]


class Kind(NamedTuple):
    """A tracker that can be asked for.

    Attributes:
        package: what is imported.
        install: how it is had.
        open: an entry → the tracker at work.
    """

    package: str
    install: str
    open: Callable[[Entry], Opened]


class Trackers:
    """The trackers of a run, for its main process. One that fails is warned of once and left out.

    Args:
        config: every flag.
        say: where lines for people go.

    Raises:
        InputError: a tracker's package is missing.
    """

    def __init__(self, config: TrainConfig, *, say: Callable[[str], None]) -> None:
        self._config, self._say = config, say
        self._wanted = config.track or ()
        self._opened: dict[str, Opened] = {}
        missing = [name for name in self._wanted if find_spec(KINDS[name].package) is None]
        if missing:
            commands = "\n  ".join(
                f"--track {name} needs the package {KINDS[name].package}: {KINDS[name].install}" for name in missing
            )
            raise InputError(commands)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *exception: object) -> None:
        for name, opened in list(self._opened.items()):
            self._try(name, opened.close)
        self._opened.clear()

    def start(self, step: int) -> None:
        """Open them in the run's folder, which is there now, `step` steps being done."""
        for name in self._wanted:
            self._try(name, partial(self._open, name, step))

    def log(self, line: Mapping[str, Any]) -> None:
        """Send a line of metrics.jsonl or timing.jsonl."""
        values = figures(line)
        for name, opened in list(self._opened.items()):
            fresh = {figure: value for figure, value in values.items() if line["step"] > opened.known.get(figure, -1)}
            if fresh:
                self._try(name, partial(opened.tracker.log, fresh, step=line["step"]))

    def _open(self, name: str, step: int) -> None:
        folder = self._config.output / FOLDER
        folder.mkdir(exist_ok=True)
        ids = _read(folder / IDS)
        opened = KINDS[name].open(Entry(*names_of(self._config.output), folder, step, ids.get(name)))
        self._opened[name] = opened
        if name not in ids:
            opened.tracker.store_init_configuration(_settings(self._config))
            write_synced(folder / IDS, json.dumps(ids | {name: opened.id}, indent=1) + "\n")

    def _try(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as exc:  # what a library, its server or the network make of it: nothing of that is the run's
            self._opened.pop(name, None)
            reason = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
            self._say(
                f"warning: --track {name} failed and is left out from here on: {reason}. The run goes on; metrics.jsonl has every figure"
            )


def names_of(output: Path) -> tuple[str, str]:
    """Give a run's project and name: those of the folder it lies in and of its own; seeds and trials of a run stand beside one another."""
    run, name = output.absolute(), output.absolute().name
    if (kind := CHOSEN_FROM.get(run.parent.name)) is not None:
        run = run.parents[1]
        name = f"{run.name}-{kind}-{name}"
    return re.sub(r"[^\w.-]", "-", run.parent.name) or "portabert", name  # W&B takes no / \ # ? % : in a project


def figures(line: Mapping[str, Any]) -> dict[str, float]:
    """Name a line's figures as trackers group them: train/loss, eval/accuracy."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{metric}": figure for metric, figure in value.items()}
        elif name != "step" and (name != "epoch" or "loss" in line):  # several lines may be of one step
            found[f"train/{name}"] = value
    return found


def _settings(config: TrainConfig) -> dict[str, str | float]:
    """Give the flags, of files and folders their names alone: where they lie is nobody else's business."""
    values = {name: value for name, value in asdict(config).items() if name not in NOT_SENT}
    return {name: value if isinstance(value, int | float) else _told(value) for name, value in values.items()}


def _told(value: Any) -> str:
    if value is None:
        return "not set"
    if not isinstance(value, str):
        return ", ".join(map(str, value))
    prefix = "hf:" if value.startswith("hf:") else ""  # of a data set, which may be a folder
    place = Path(value.removeprefix(prefix))
    return prefix + place.name if place.is_absolute() or place.exists() else value


def _read(file: Path) -> dict[str, str]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _tensorboard(entry: Entry) -> Opened:
    from accelerate.tracking import TensorBoardTracker

    again: Any = {} if entry.id is None else {"purge_step": entry.step + 1}
    tracker = TensorBoardTracker("tensorboard", logging_dir=entry.folder, **again)
    tracker.start()
    return Opened(tracker, entry.name, tracker.finish, {})


def _wandb(entry: Entry) -> Opened:
    from accelerate.tracking import WandBTracker

    own = entry.id or uuid.uuid4().hex[:8]
    tracker = WandBTracker(
        entry.project, name=entry.name, id=own, resume="allow", dir=str(entry.folder), settings=WANDB_KEEPS
    )
    tracker.start()
    return Opened(tracker, own, tracker.finish, {})


def _mlflow(entry: Entry) -> Opened:
    import mlflow
    from accelerate.tracking import MLflowTracker

    own_store, artifacts = not os.environ.get(MLFLOW_URI), None
    if own_store:
        mlflow.set_tracking_uri(f"sqlite:///{entry.folder.absolute() / 'mlflow.db'}")
        artifacts = (entry.folder / "artifacts").absolute().as_uri()  # else where the program was started
    tracker = MLflowTracker(entry.project, logging_dir=artifacts, run_id=entry.id, run_name=entry.name)
    tracker.start()

    def close() -> None:
        tracker.finish()
        if own_store:  # which MLflow keeps for the whole process; the next seed has its own
            mlflow.set_tracking_uri(None)

    return Opened(tracker, str(tracker.active_run.info.run_id), close, _known_to_mlflow(entry.id))


def _known_to_mlflow(run: str | None) -> dict[str, int]:
    from mlflow import MlflowClient

    if run is None:
        return {}
    client = MlflowClient()
    names: Sequence[str] = list(client.get_run(run).data.metrics)
    return {name: max(point.step for point in client.get_metric_history(run, name)) for name in names}


KINDS: dict[str, Kind] = {
    "tensorboard": Kind("tensorboard", "pip install 'portabert[track]'", _tensorboard),
    "wandb": Kind("wandb", "pip install wandb", _wandb),
    "mlflow": Kind("mlflow", "pip install mlflow", _mlflow),
}
