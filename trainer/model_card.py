"""A run's README.md: the model card that the Hugging Face Hub reads. It may be published, so it names neither files nor rows."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .checkpoint import RunRecord
from .config import TrainConfig
from .metrics import Metrics
from .model import MINILM_HUB_NAME
from .objectives import OBJECTIVES, natural_sort


class Wording(NamedTuple):
    """What people call a task.

    Attributes:
        title: the task.
        answer: what a model of it gives for a text.
        pipeline: transformers' name for its pipeline, and the Hub's for its tag.
        arguments: what to call that pipeline with.
    """

    title: str
    answer: str
    pipeline: str
    arguments: str


WORDING: dict[str, Wording] = {
    "single-label": Wording("Single-label classification", "the one label that fits", "text-classification", ""),
    "multi-label": Wording(
        "Multi-label classification", "every label that fits, with its score", "text-classification", ", top_k=None"
    ),
    "regression": Wording("Regression", "a number", "text-classification", ', function_to_apply="none"'),
    "token": Wording(
        "Token classification", "the spans it finds", "token-classification", ', aggregation_strategy="first"'
    ),
}


class Name(NamedTuple):
    """What people call a metric, and what the Hub does."""

    title: str
    hub: str


NAMES: dict[str, Name] = {
    "accuracy": Name("Accuracy", "accuracy"),
    "macro_f1": Name("Macro F1", "f1"),
    "micro_f1": Name("Micro F1", "f1"),
    "map": Name("Mean average precision", "mean_average_precision"),
    "spearman": Name("Spearman correlation", "spearmanr"),
    "pearson": Name("Pearson correlation", "pearsonr"),
    "rmse": Name("Root mean squared error", "rmse"),
    "span_f1": Name("Span F1", "f1"),
    "span_precision": Name("Span precision", "precision"),
    "span_recall": Name("Span recall", "recall"),
}


def write_card(
    *, config: TrainConfig, record: RunRecord, measured: Metrics | None, tested: Metrics | None, labels: tuple[str, ...]
) -> str:
    """Write the card: what the model is, what it reaches, how to use it.

    Args:
        config: how it was trained.
        record: what the run's folder holds.
        measured: what it reaches on the evaluation rows, where there were any.
        tested: what it reaches on the test rows, where there were any.
        labels: the label of each logit.

    Returns:
        Markdown, with metadata in front.
    """
    wording, base = WORDING[config.task], _base_model(config.model)
    origin = f", fine-tuned from [{base}](https://huggingface.co/{base})" if base else ""
    reads = "two texts" if config.text_pair_column else "a text"
    example = '{"text": "a text", "text_pair": "another"}' if config.text_pair_column else '"a text"'
    unfinished = (
        "" if record.complete else f"\nTraining was interrupted at step {record.step} of {record.total_steps}.\n"
    )
    made_by = ", ".join(f"{name} {version}" for name, version in record.made_by.items())
    return f"""---
{_metadata(config, base, measured or tested)}---

# {wording.title}

A model{origin}. It reads {reads} of up to {record.max_length:,} tokens and gives {wording.answer}.
{unfinished}
{_weights(config, record)}{_figures(measured, tested)}{_labels(config, labels)}{_calibration(record)}## Use

With transformers, from this folder or its name on the Hub:

```python
from transformers import pipeline

predict = pipeline("{wording.pipeline}", model="RUN"{wording.arguments})
print(predict({example}))
```

Without torch, on a device: export it once to ONNX, verified against these weights.

```bash
python -m export RUN
```

Made with portabert: {made_by}.
"""


def trained_weights(config: TrainConfig, record: RunRecord) -> str:
    """Say how many weights were trained, and how."""
    share = f"{record.num_trained / 1e6:,.2f} of {record.num_weights / 1e6:,.2f} million ({record.num_trained / record.num_weights:.1%})"
    adapters = f": adapters of rank {config.lora_rank}, alpha {config.alpha}, and the head; merged"
    return share + (adapters if config.lora_rank else "")


def _weights(config: TrainConfig, record: RunRecord) -> str:
    """Say how the weights came about where it is not by training all of them to one step."""
    sentences = []
    if config.lora_rank:
        sentences.append(
            f"It was trained with LoRA: {trained_weights(config, record)} into the weights, so none is needed to use it."
        )
    if record.averaged:
        sentences.append(f"Its weights are {record.weights_of}.")
    return " ".join(sentences) + "\n\n" if sentences else ""


def _metadata(config: TrainConfig, base: str | None, metrics: Metrics | None) -> str:
    names = [NAMES[name].hub for name in metrics.values] if metrics else []
    values: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": WORDING[config.task].pipeline,
        **({"base_model": base} if base else {}),
        "tags": ["portabert", config.task],
        **({"metrics": list(dict.fromkeys(names))} if names else {}),
    }
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _base_model(model: str) -> str | None:
    """Give the name on the Hub; a folder has none, and is nobody else's business."""
    name = MINILM_HUB_NAME if model == "minilm" else model
    return name if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) and not Path(model).exists() else None


def _figures(measured: Metrics | None, tested: Metrics | None) -> str:
    columns = [(title, metrics.values) for title, metrics in (("Evaluation", measured), ("Test", tested)) if metrics]
    if not columns:
        return ""
    rows = [
        ["", *(title for title, _ in columns)],
        ["---", *("---:" for _ in columns)],
        *([NAMES[name].title, *(f"{values[name]:.4f}" for _, values in columns)] for name in columns[0][1]),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"## Figures\n\n{table}\n\nThe best weights were chosen on the evaluation rows; test rows were not used to choose anything.\n\n"


def _labels(config: TrainConfig, labels: Sequence[str]) -> str:
    """List the names that answers hold, in the model's order unless they only stand inside tags."""
    known = OBJECTIVES[config.task].known(tuple(labels))
    names = labels if known == set(labels) else natural_sort(known)
    return f"## Labels\n\n{', '.join(map(_code, names))}\n\n" if names else ""


def _calibration(record: RunRecord) -> str:
    """Say what the figures above were reached with, for programs that know nothing of it, such as the pipeline below."""
    learned = record.calibration
    if learned is None:
        return ""
    lines = (
        []
        if learned.temperature == 1
        else [f"Logits are divided by {learned.temperature:.4g} before they become probabilities."]
    )
    if learned.thresholds is not None:
        counts = (f"{_code(label)} {at:.3f}" for label, at in zip(record.labels, learned.thresholds, strict=True))
        lines.append(f"From which probability a label counts: {', '.join(counts)}.")
    if learned.abstain_below is not None:
        lines.append(f"Answers with a probability below {learned.abstain_below:.4g} are too unsure to be used.")
    text = " ".join(lines)
    return f"## Calibration\n\nLearned on the evaluation rows; an export applies it. {text}\n\n" if lines else ""


def _code(text: str) -> str:
    """Quote user data so that Markdown finds nothing to interpret in it (CommonMark 6.1, code spans)."""
    line = re.sub(r"\s+", " ", text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"
