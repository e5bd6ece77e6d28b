"""What a run leaves for people: report.html, the plots it shows, and README.md.

The page stands alone: pictures and styles are inside it, it has no script, and its policy lets a browser load nothing. Matrix, mistakes and
labels are those of the evaluation rows, which are there to be studied, and those of the test rows only where nothing else was measured.
"""

from collections.abc import Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.bundle import write_synced

from .checkpoint import RunRecord
from .config import TrainConfig
from .metrics import LabelScore, Metrics
from .model_card import trained_weights, write_card
from .objectives import OBJECTIVES
from .pace import overall, share_of_peak
from .page import Picture, image, page, scrolling, section, table
from .plots.confusion import plot_confusion
from .plots.curves import plot_curves
from .wording import NAMES, WORDING

NUM_MISTAKES = 10  # rows in the table of the most frequent ones
CURVES_INCHES = (8.1, 4.0)  # the column of the page, and a phone


class Details(NamedTuple):
    """The rows that are looked at closely, and what was measured on them."""

    rows: str
    metrics: Metrics


def write_report(
    folder: Path,
    *,
    config: TrainConfig,
    record: RunRecord,
    history: list[dict[str, Any]],
    measured: Metrics | None,
    tested: Metrics | None,
    labels: tuple[str, ...],
    sections: Sequence[str] = (),
) -> None:
    """Write report.html, README.md, loss.png and, where labels exclude each other, confusion.png into a run's folder.

    Args:
        folder: the run's.
        config: how it was trained.
        record: what run.json says.
        history: the lines of metrics.jsonl.
        measured: what the kept weights reach on the evaluation rows, where there were any.
        tested: what they reach on the test rows, where there were any.
        labels: the label of each logit.
        sections: what else was found, as HTML.
    """
    found = [Details(rows, metrics) for rows, metrics in (("evaluation", measured), ("test", tested)) if metrics]
    details = found[0] if found else None
    marked = None if record.averaged else record.best_step  # a mean is of no step
    curves, narrow = (plot_curves(history, best_step=marked, width_inches=width) for width in CURVES_INCHES)
    matrix = None
    if details and details.metrics.confusion is not None:
        matrix = plot_confusion(details.metrics.confusion, labels)
    for name, picture in (("loss.png", curves), ("confusion.png", matrix)):
        if picture is not None:
            (folder / name).write_bytes(picture.light)
    card = write_card(config=config, record=record, measured=measured, tested=tested, labels=labels)
    write_synced(folder / "README.md", card)
    body = [
        _head(config, record, len(OBJECTIVES[config.task].known(labels))),
        _headline(config, record, measured, tested),
        _curves(curves, narrow, history),
        _matrix(matrix, details, labels),
        _label_table(details),
        *sections,
        _facts(config, record, history),
        _settings(config),
    ]
    title = f"{WORDING[config.task].title}: {config.model}"
    write_synced(folder / "report.html", page(title, body))


def _head(config: TrainConfig, record: RunRecord, num_labels: int) -> str:
    if not record.complete:
        state, text = "interrupted", f"Interrupted at step {record.step:,} of {record.total_steps:,}"
    elif record.step < record.total_steps:
        state, text = "complete", f"Complete: stopped early at step {record.step:,} of {record.total_steps:,}"
    else:
        state, text = "complete", f"Complete: {record.step:,} steps"
    if record.collapsed:
        state, text = "interrupted", f"{text}. Nothing was learnt: the loss ended at that of one answer for all texts"
    labels = f" · {num_labels} labels" if num_labels > 1 else ""
    return f"""<header>
<p class="kind">Training report</p>
<h1>{escape(WORDING[config.task].title)}</h1>
<p class="lead"><code>{escape(config.model)}</code> trained on <code>{escape(config.train)}</code>{labels}</p>
<p class="state {state}">{text}</p>
</header>"""


def _headline(config: TrainConfig, record: RunRecord, measured: Metrics | None, tested: Metrics | None) -> str:
    best = config.best_metric or OBJECTIVES[config.task].best_metric
    num_rows = f"{record.evaluation.num_rows:,} rows" if record.evaluation else "Evaluation rows"
    cards = [
        _card(title, metrics, best, note)
        for title, metrics, note in (
            ("Evaluation", measured, f"{num_rows}, used to choose the weights"),
            ("Test", tested, "Not used to choose anything"),
        )
        if metrics
    ]
    if not cards:
        return '<p class="note">Nothing was measured: there were no evaluation or test rows.</p>'
    return f'<section class="cards" aria-label="Headline figures">{"".join(cards)}</section>'


def _card(title: str, metrics: Metrics, best: str, note: str) -> str:
    first = best if best in metrics.values else next(iter(metrics.values))
    others = "".join(
        f"<div><dt>{NAMES[name].title}</dt><dd>{value:.3f}</dd></div>"
        for name, value in metrics.values.items()
        if name != first
    )
    return f"""<article>
<h2>{title}</h2>
<p class="figure"><strong>{metrics.values[first]:.3f}</strong> {NAMES[first].title}</p>
<dl>{others}</dl>
<p class="note">{note}</p>
</article>"""


def _curves(picture: Picture | None, narrow: Picture | None, history: Sequence[dict[str, Any]]) -> str:
    if picture is None or narrow is None:
        return ""
    losses = [line for line in history if "loss" in line]
    alt = "Curves over the training steps."
    if losses:
        first, last = losses[0], losses[-1]
        alt += f" The loss is {first['loss']:.3f} at step {first['step']:,} and {last['loss']:.3f} at step {last['step']:,}."
    return section("Training", image(picture, alt, narrow=narrow))


def _matrix(picture: Picture | None, details: Details | None, labels: Sequence[str]) -> str:
    if picture is None or details is None or details.metrics.confusion is None:
        return ""
    counts = details.metrics.confusion
    right = int(np.trace(counts))
    alt = f"Confusion matrix of {len(labels)} labels: {right:,} of {int(counts.sum()):,} rows are on its diagonal."
    note = (
        f"Of the {details.rows} rows. A line holds the rows of one true label; "
        "the stronger a colour, the larger the share of them."
    )
    frame = scrolling(image(picture, alt), name="Confusion matrix", kind="matrix")
    return section("Confusion matrix", f'<p class="note">{note}</p>{frame}{_mistakes(counts, labels)}')


def _mistakes(counts: Any, labels: Sequence[str]) -> str:
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:NUM_MISTAKES]
    cells = [divmod(int(position), len(labels)) for position in order]
    rows = [(labels[true], labels[found], int(wrong[true, found])) for true, found in cells if wrong[true, found]]
    if not rows:
        return ""
    return f"<h3>Most frequent mistakes</h3>{table(('True', 'Predicted', 'Rows'), rows, name='Most frequent mistakes')}"


def _label_table(details: Details | None) -> str:
    if details is None or not details.metrics.by_label:
        return ""
    # A label that no row has can be neither found nor missed: last, without figures.
    scores = sorted(details.metrics.by_label, key=lambda score: (score.support == 0, score.f1))
    head = ("Label", "F1", "Precision", "Recall", "Support")
    rows = table(head, [_label_row(score) for score in scores], name="Figures by label")
    note = f"Of the {details.rows} rows, lowest F1 first. Support is how often the label is true."
    return section("Labels", f'<p class="note">{note}</p>{rows}')


def _label_row(score: LabelScore) -> tuple[str | float | int | None, ...]:
    figures = (score.f1, score.precision, score.recall) if score.support else (None, None, None)
    return (score.label, *figures, score.support)


def _facts(config: TrainConfig, record: RunRecord, history: Sequence[dict[str, Any]]) -> str:
    each = f"{config.batch_size:,} rows" if config.batch_tokens is None else f"about {config.batch_tokens:,} tokens"
    facts = {"Steps": f"{record.step:,} of {record.total_steps:,}, of {each}"}
    facts["Highest learning rate"] = f"{record.learning_rate:.2g}"
    facts["Loss of one answer for all texts"] = f"{record.constant_loss:.3f}"
    if record.best_step is not None:
        facts["Weights kept"] = record.weights_of
    facts["Weights trained"] = trained_weights(config, record)
    if record.evaluation:
        split = " held out of the training rows" if record.evaluation.split == "holdout" else ""
        facts["Evaluation rows"] = f"{record.evaluation.num_rows:,}{split}, from {record.evaluation.source}"
    if config.quant_aware:
        facts["Figures"] = (
            f"of int8, as an export writes it; trained in it from epoch {config.epochs - config.quant_aware + 1} on"
        )
    facts["Longest text"] = f"{record.max_length:,} tokens"
    if speed := overall(history):
        facts["Throughput"] = (
            f"{speed.texts_per_s:,.1f} texts/s, {speed.tokens_per_s:,.0f} tokens/s, evaluations left out"
        )
        facts["Time"] = f"{_duration(speed.seconds)} of training"
        if share := share_of_peak(speed):
            facts["Share of the peak"] = f"{share}, by the FLOPs that the model takes for its tokens"
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in record.made_by.items())
    rows = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return section("This run", f'<dl class="facts">{rows}</dl>')


def _duration(seconds: float) -> str:
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _settings(config: TrainConfig) -> str:
    values = [(f"--{f.name.replace('_', '-')}", getattr(config, f.name), f.default) for f in fields(config)]
    changed = [(flag, _shown(value), _shown(default)) for flag, value, default in values if value != default]
    head = table(("Setting", "Value", "Default"), changed, name="Settings that differ") if changed else ""
    everything = table(("Setting", "Value"), [(flag, _shown(value)) for flag, value, _ in values], name="All settings")
    lead = "Those that differ from the defaults." if changed else "All are the defaults."
    more = f"<details><summary>All {len(values)} settings</summary>{everything}</details>"
    return section("Settings", f'<p class="note">{lead}</p>{head}{more}')


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
