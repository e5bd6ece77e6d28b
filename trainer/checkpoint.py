"""A run's folder, and the one door through which `export` enters `trainer`.

RUN/config.json model.safetensors tokenizer.json …   the best weights, as Hugging Face writes them
RUN/run.json             what was trained on what, and how far; written last: without it the run is not finished
RUN/train_config.json    every flag
RUN/metrics.jsonl report.html *.png
RUN/checkpoints/         states to resume from, and the best weights while training goes on
RUN/tracking/            what --track leaves on this machine (trackers.py)
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers

from runtime.bundle import sha256, write_synced
from runtime.encode import Encoded, Encoder
from runtime.errors import InputError
from runtime.machine import package_version
from runtime.records import Record
from runtime.tasks import TASKS

from .calibration import Answered, Calibration, centre, describe, learn
from .config import TrainConfig
from .data import Evaluation, read_evaluation, read_labelled
from .errors import ModelError, RunError
from .evaluate import answer
from .evidence import Evidence, Floats, gather
from .model import find_model, graph_inputs, usable_length
from .objectives import OBJECTIVES, Objective
from .packed import Packed

RECORD, CONFIG, CHECKPOINTS = "run.json", "train_config.json", "checkpoints"
SEEDS, TRIALS = "seeds", "tune"  # where the runs lie that a run was chosen from


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What run.json says.

    Attributes:
        complete: false where training was interrupted.
        step: optimizer steps done, of `total_steps`.
        best_step: the step of the best evaluation, whose weights were kept unless `averaged` says otherwise; None where nothing was measured.
        labels: the label of each logit.
        max_length: tokens of a text.
        learning_rate: the highest.
        constant_loss: the mean loss of the best answer that is the same for all training texts.
        evaluation: where the evaluation rows came from.
        eval: metrics of the kept weights on them.
        test: metrics on the test rows.
        model_sha256: digest of model.safetensors.
        made_by: versions of the programs that trained.
        num_weights: numbers of the model.
        num_trained: those that were trained: with adapters theirs and the head's, else all but the vectors of words that no text uses.
        calibration: what was learned of the kept weights' probabilities; None where nothing was.
        averaged: the steps of whose weights the mean was kept; None where it was not.
        slices: rows and metrics by the values of --slice-column; None where it is not set.
        collapsed: whether nothing was learnt: the last steps cost as much as that answer would have.
    """

    complete: bool
    step: int
    total_steps: int
    best_step: int | None
    labels: tuple[str, ...]
    max_length: int
    learning_rate: float
    constant_loss: float
    evaluation: Evaluation | None
    eval: dict[str, float] | None
    test: dict[str, float] | None
    model_sha256: str
    made_by: dict[str, str]
    num_weights: int
    num_trained: int
    calibration: Calibration | None = None
    averaged: tuple[int, ...] | None = None
    slices: dict[str, dict[str, float]] | None = None
    collapsed: bool = False

    @property
    def weights_of(self) -> str:
        """Which weights were kept, for people."""
        if self.averaged:
            return f"the mean of steps {', '.join(f'{step:,}' for step in self.averaged)}"
        return f"step {self.best_step or self.step:,}"


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
        calibration: what was learned of its probabilities; None where nothing was.
    """

    folder: Path
    config: TrainConfig
    labels: tuple[str, ...]
    max_length: int
    evaluation: Evaluation | None
    notes: tuple[str, ...]
    calibration: Calibration | None = None

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

    def check_calibration(self, *, abstain_precision: float | None) -> None:
        """Check that it can be calibrated.

        Raises:
            InputError: its answers are no probabilities, or cannot be withheld.
        """
        task = self.config.task
        if self.objective.likelihood is None:
            raise InputError(f"--calibrate is for probabilities; a {task} model has none. Leave it out.")
        if abstain_precision is not None and not TASKS[task].abstains:
            raise InputError(
                f"--abstain-precision is for answers that are right or wrong as a whole; a {task} model gives others. Leave it out."
            )

    def calibrated(
        self,
        records: Sequence[Record],
        encoded: Encoded,
        logits: Sequence[Floats],
        *,
        abstain_precision: float | None = None,
    ) -> "Checkpoint":
        """Calibrate it anew on labelled rows and its logits of them; see `learn`."""
        evidence = self.evidence(records, encoded, logits)
        return replace(self, calibration=learn(evidence, abstain_precision=abstain_precision))

    def answered(self, records: Sequence[Record], encoded: Encoded, logits: Sequence[Floats]) -> Answered | None:
        """Count the answers that do not abstain; None where there is no level."""
        if self.calibration is None or self.calibration.abstain_below is None:
            return None
        return self.calibration.assess(self.evidence(records, encoded, logits)).answered

    def evidence(self, records: Sequence[Record], encoded: Encoded, logits: Sequence[Floats]) -> Evidence:
        """Put its decisions about labelled rows beside the truth; not for a task without probabilities."""
        assert self.objective.likelihood is not None
        return gather(logits, self.objective.targets(records, encoded, self.labels), self.objective.likelihood)

    def int8_logits(self, encoded: Encoded) -> list[Floats] | None:
        """Compute logits in int8, as the last epochs of training did (`--quant-aware`): per text (C,), or (t, C); None where they did not."""
        if not self.config.quant_aware:
            return None
        model = self.load_model()
        network = Packed(model, per_token=TASKS[self.config.task].per_token, inputs=self.graph_inputs(model))
        network.answers_in_int8 = True
        found = answer(network, encoded)
        return [found[index] for index in range(len(found))]

    @property
    def calibration_lines(self) -> list[str]:
        """What was learned of its probabilities, for people."""
        return describe(self.calibration) if self.calibration else []

    def centred(self, logits: Sequence[Floats]) -> Sequence[Floats]:
        """Move logits so that each label with a threshold counts from 0."""
        return centre(logits, self.calibration)


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
        calibration=record.calibration,
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
            if (folder / CHECKPOINTS).is_dir()
            else "give a run's folder"
        )
        raise RunError(f"{folder} has no {RECORD}: {hint}.")
    values = _read_json(folder / RECORD, RunRecord)
    evaluation, calibration, averaged = values["evaluation"], values["calibration"], values["averaged"]
    return RunRecord(
        **{
            **values,
            "labels": tuple(values["labels"]),
            "evaluation": None if evaluation is None else Evaluation(**evaluation),
            "calibration": None if calibration is None else Calibration.from_json(calibration),
            "averaged": None if averaged is None else tuple(averaged),
        }
    )


def read_config(file: Path) -> TrainConfig:
    """Read train_config.json.

    Raises:
        RunError: it is missing or damaged.
    """
    values = _read_json(file, TrainConfig)
    for name in ("labels", "columns", "tune_over", "track"):
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
    take_over(sorted(best.iterdir()), run)
    complete = RunRecord(**record, model_sha256=sha256(run / "model.safetensors"), made_by=versions())
    report(complete)
    values = {
        **asdict(complete),
        "evaluation": complete.evaluation._asdict() if complete.evaluation else None,
        "calibration": complete.calibration.as_json() if complete.calibration else None,
    }
    write_synced(run / RECORD, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
    return complete


def take_over(files: Iterable[Path], run: Path) -> None:
    """Copy files into a run's folder, one after the other, each whole or not at all."""
    for file in files:
        shutil.copy2(file, run / f".{file.name}.tmp")
        os.replace(run / f".{file.name}.tmp", run / file.name)


def versions() -> dict[str, str]:
    """Name the programs at work and their versions."""
    packages = ("portabert", "torch", "transformers", "tokenizers", "accelerate")
    return {package: package_version(package) or "not installed" for package in packages}


def _read_json(file: Path, kind: Any) -> dict[str, Any]:
    """Read an object with the fields of a dataclass."""
    known = {field.name for field in fields(kind)}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise RunError(f"{file} is missing. Train again with --overwrite.") from exc
    except (UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise RunError(f"{file} is not valid JSON: {exc}. Train again with --overwrite.") from exc
    if not isinstance(values, dict) or set(values) != known:
        differing: Sequence[str] = sorted(set(values) ^ known) if isinstance(values, dict) else []
        raise RunError(
            f"{file} does not have the fields this version writes (differing: {', '.join(differing)}). Train again with --overwrite."
        )
    return values
