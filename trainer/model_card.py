"""A run's README.md: the model card that the Hugging Face Hub reads. It may be published, so it names neither files nor rows."""

import re
from collections.abc import Sequence

from .card_metadata import base_model, write_metadata
from .checkpoint import RunRecord
from .config import TrainConfig
from .metrics import Metrics
from .objectives import OBJECTIVES, natural_sort
from .wording import NAMES, WORDING


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
    wording, base = WORDING[config.task], base_model(config.model)
    origin = f", fine-tuned from [{base}](https://huggingface.co/{base})" if base else ""
    reads = "two texts" if config.text_pair_column else "a text"
    example = '{"text": "a text", "text_pair": "another"}' if config.text_pair_column else '"a text"'
    unfinished = (
        "" if record.complete else f"\nTraining was interrupted at step {record.step} of {record.total_steps}.\n"
    )
    made_by = ", ".join(f"{name} {version}" for name, version in record.made_by.items())
    return f"""---
{write_metadata(config, record, measured=measured, tested=tested)}---

# {wording.title}

A model{origin}. It reads {reads} of up to {record.max_length:,} tokens and gives {wording.answer}.
{unfinished}
{_weights(config, record)}{_figures(config, measured, tested)}{_labels(config, labels)}{_calibration(record)}## Use

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


def _figures(config: TrainConfig, measured: Metrics | None, tested: Metrics | None) -> str:
    columns = [(title, metrics.values) for title, metrics in (("Evaluation", measured), ("Test", tested)) if metrics]
    if not columns:
        return ""
    rows = [
        ["", *(title for title, _ in columns)],
        ["---", *("---:" for _ in columns)],
        *([NAMES[name].title, *(f"{values[name]:.4f}" for _, values in columns)] for name in columns[0][1]),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    chosen = "The best weights were chosen on the evaluation rows; test rows were not used to choose anything."
    in_int8 = (
        " They are of the int8 that an export computes in, for which the model was trained."
        if config.quant_aware
        else ""
    )
    return f"## Figures\n\n{table}\n\n{chosen}{in_int8}\n\n"


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
