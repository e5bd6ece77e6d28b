"""A run's folder, and the one door through which `export` enters `trainer`.

RUN/config.json model.safetensors tokenizer.json …   the best weights, as Hugging Face writes them
RUN/run.json             what was trained on what, and how far; written last: without it the run is not finished
RUN/train_config.json    every flag
RUN/metrics.jsonl report.html *.png
RUN/checkpoints/         states to resume from, and the best weights while training goes on
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers

from runtime.bundle import sha256, write_synced
from runtime.encode import Encoder
from runtime.machine import package_version
from runtime.records import Record
from runtime.tasks import TASKS

from .config import TrainConfig
from .data import Evaluation, read_evaluation, read_labelled
from .errors import ModelError, RunError
from .model import find_model, graph_inputs, usable_length
from .objectives import OBJECTIVES, Objective

RECORD, CONFIG = "run.json", "train_config.json"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What run.json says.

    Attributes:
        complete: false where training was interrupted.
        step: optimizer steps done, of `total_steps`.
        best_step: the step whose weights were kept; None where nothing was measured.
        labels: the label of each logit.
        max_length: tokens of a text.
        constant_loss: the mean loss of the best answer that is the same for all training texts.
        evaluation: where the evaluation rows came from.
        eval: metrics of the kept weights on them.
        test: metrics on the test rows.
        model_sha256: digest of model.safetensors.
        made_by: versions of the programs that trained.
    """

    complete: bool
    step: int
    total_steps: int
    best_step: int | None
    labels: tuple[str, ...]
    max_length: int
    constant_loss: float
    evaluation: Evaluation | None
    eval: dict[str, float] | None
    test: dict[str, float] | None
    model_sha256: str
    made_by: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model, ready to be exported.

    Attributes:
        folder: a Hugging Face checkpoint.
        config: how it was trained, or for a checkpoint from elsewhere how its rows are laid out.
        labels: the label of each logit.
        max_length: tokens of a text.
        evaluation: where its evaluation rows came from.
        notes: what a person should know.
    """

    folder: Path
    config: TrainConfig
    labels: tuple[str, ...]
    max_length: int
    evaluation: Evaluation | None
    notes: tuple[str, ...]

    @property
    def objective(self) -> Objective:
        """The task, as training sees it."""
        return OBJECTIVES[self.config.task]

    @property
    def pair(self) -> bool:
        """Whether the model compares two texts."""
        return self.config.text_pair_column is not None

    def load_model(self, *, attn_implementation: str = "eager") -> Any:
        """Load the PyTorch model in fp32, for inference."""
        model_class = getattr(transformers, self.objective.auto_model)
        return model_class.from_pretrained(
            self.folder, attn_implementation=attn_implementation, dtype=torch.float32
        ).eval()

    @cached_property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, loaded once."""
        return transformers.AutoTokenizer.from_pretrained(self.folder)

    def encoder(self, folder: Path | None = None) -> Encoder:
        """Open the tokenizer as training and prediction use it: this checkpoint's, or a copy of it in `folder`."""
        return Encoder(
            folder or self.folder, max_length=self.max_length, pair=self.pair, offsets=TASKS[self.config.task].per_token
        )

    def graph_inputs(self, model: Any) -> tuple[str, ...]:
        """Name the inputs the model is fed."""
        return graph_inputs(model, self.tokenizer)

    def evaluation_records(self, source: str | None) -> list[Record] | None:
        """Read labelled rows: those of `source`, else those the model was chosen on; None where there were none.

        Raises:
            InputError: the file is gone, was changed since, or does not fit the model.
        """
        if source is not None:
            return read_labelled(self.config, source, self.labels)
        return None if self.evaluation is None else read_evaluation(self.config, self.evaluation)


def open_run(folder: Path) -> Checkpoint:
    """Open a run of `python -m trainer`.

    Raises:
        RunError: it is not there, not finished, or damaged.
    """
    record = read_record(folder)
    config = read_config(folder / CONFIG)
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256(weights) != record.model_sha256:
        raise RunError(
            f"{weights} is not the file {RECORD} speaks of. Finish the run with --resume, or train again with --overwrite."
        )
    notes = (
        ()
        if record.complete
        else (
            f"{folder} was interrupted at step {record.step} of {record.total_steps}; its best weights so far are used",
        )
    )
    return Checkpoint(
        folder=folder,
        config=config,
        labels=record.labels,
        max_length=record.max_length,
        evaluation=record.evaluation,
        notes=notes,
    )


def open_foreign(folder: Path, *, config: TrainConfig) -> Checkpoint:
    """Open a Hugging Face checkpoint that another program trained.

    Args:
        folder: with config.json, model.safetensors and tokenizer.json.
        config: its task, whether it takes pairs, and how labelled rows are laid out.

    Raises:
        ModelError: it is no checkpoint with a head for the task.
    """
    try:
        settings: Any = transformers.AutoConfig.from_pretrained(find_model(str(folder)))
    except (OSError, ValueError) as exc:
        raise ModelError(
            f"{folder} is neither a run nor a Hugging Face checkpoint: {str(exc).splitlines()[0]}"
        ) from exc
    labels = tuple(str(settings.id2label[index]) for index in range(settings.num_labels))
    checkpoint = Checkpoint(folder=folder, config=config, labels=labels, max_length=1, evaluation=None, notes=())
    takes = min(usable_length(checkpoint.load_model()), config.max_length or 512)
    return Checkpoint(folder=folder, config=config, labels=labels, max_length=takes, evaluation=None, notes=())


def read_record(folder: Path) -> RunRecord:
    """Read run.json.

    Raises:
        RunError: the run is not there or not finished.
    """
    if not folder.is_dir():
        raise RunError(f"no run at {folder}: no such folder. Train one with: python -m trainer --output {folder}")
    if not (folder / RECORD).is_file():
        hint = (
            "it was stopped before its end; go on with: python -m trainer --resume"
            if (folder / "checkpoints").is_dir()
            else "give a run's folder"
        )
        raise RunError(f"{folder} has no {RECORD}: {hint}.")
    values = _read_json(folder / RECORD, {field.name for field in fields(RunRecord)})
    evaluation = values["evaluation"]
    return RunRecord(
        **{
            **values,
            "labels": tuple(values["labels"]),
            "evaluation": None if evaluation is None else Evaluation(**evaluation),
        }
    )


def read_config(file: Path) -> TrainConfig:
    """Read train_config.json.

    Raises:
        RunError: it is missing or damaged.
    """
    values = _read_json(file, {field.name for field in fields(TrainConfig)})
    for name in ("labels", "columns"):
        values[name] = None if values[name] is None else tuple(values[name])
    return TrainConfig(**{**values, "output": Path(values["output"]), "config": None})


def write_config(file: Path, config: TrainConfig) -> None:
    """Write train_config.json; `--config` reads it too."""
    write_synced(
        file,
        json.dumps({**asdict(config), "output": str(config.output), "config": None}, ensure_ascii=False, indent=1)
        + "\n",
    )


def publish(
    run: Path, best: Path, record: dict[str, Any], *, report: Callable[[RunRecord], None] = lambda record: None
) -> RunRecord:
    """Make the best weights the run's own: their files first, then its report, run.json last, so that a run with it is whole."""
    (run / RECORD).unlink(missing_ok=True)
    for file in sorted(best.iterdir()):
        shutil.copy2(file, run / f".{file.name}.tmp")
        os.replace(run / f".{file.name}.tmp", run / file.name)
    complete = RunRecord(**record, model_sha256=sha256(run / "model.safetensors"), made_by=versions())
    report(complete)
    values = {**asdict(complete), "evaluation": complete.evaluation._asdict() if complete.evaluation else None}
    write_synced(run / RECORD, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
    return complete


def versions() -> dict[str, str]:
    """Name the programs at work and their versions."""
    packages = ("portabert", "torch", "transformers", "tokenizers", "accelerate")
    return {package: package_version(package) or "not installed" for package in packages}


def _read_json(file: Path, expected: set[str]) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise RunError(f"{file} is missing. Train again with --overwrite.") from exc
    except (UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise RunError(f"{file} is not valid JSON: {exc}. Train again with --overwrite.") from exc
    if not isinstance(values, dict) or set(values) != expected:
        differing: Sequence[str] = sorted(set(values) ^ expected) if isinstance(values, dict) else []
        raise RunError(
            f"{file} does not have the fields this version writes (differing: {', '.join(differing)}). Train again with --overwrite."
        )
    return values
