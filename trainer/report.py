"""What a run leaves for people: report.html, the plots it shows, and README.md.

The page stands alone: pictures and styles are inside it, it has no script, and its policy lets a browser load nothing. Matrix, mistakes and
labels are those of the evaluation rows, which are there to be studied, and those of the test rows only where nothing else was measured.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.bundle import write_synced

from .checkpoint import RunRecord
from .config import TrainConfig
from .metrics import LabelScore, Metrics
from .model_card import NAMES, WORDING, write_card
from .objectives import OBJECTIVES
from .plots import Picture, plot_confusion, plot_curves

NUM_MISTAKES = 10  # rows in the table of the most frequent ones
CURVES_INCHES = (8.1, 4.0)  # the column of the page, and a phone
WIDEST_IMAGE = 800  # CSS pixels; what is wider would be too small to read in the column, and scrolls


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
    curves, narrow = (plot_curves(history, best_step=record.best_step, width_inches=width) for width in CURVES_INCHES)
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
    write_synced(folder / "report.html", _PAGE % {"title": escape(title), "style": _STYLE, "body": "\n".join(body)})


def _head(config: TrainConfig, record: RunRecord, num_labels: int) -> str:
    if not record.complete:
        state, text = "interrupted", f"Interrupted at step {record.step:,} of {record.total_steps:,}"
    elif record.step < record.total_steps:
        state, text = "complete", f"Complete: stopped early at step {record.step:,} of {record.total_steps:,}"
    else:
        state, text = "complete", f"Complete: {record.step:,} steps"
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
    return _section("Training", _image(picture, alt, narrow=narrow))


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
    frame = _scrolling(_image(picture, alt), name="Confusion matrix", kind="matrix")
    return _section("Confusion matrix", f'<p class="note">{note}</p>{frame}{_mistakes(counts, labels)}')


def _mistakes(counts: Any, labels: Sequence[str]) -> str:
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:NUM_MISTAKES]
    cells = [divmod(int(position), len(labels)) for position in order]
    rows = [(labels[true], labels[found], int(wrong[true, found])) for true, found in cells if wrong[true, found]]
    if not rows:
        return ""
    return (
        f"<h3>Most frequent mistakes</h3>{_table(('True', 'Predicted', 'Rows'), rows, name='Most frequent mistakes')}"
    )


def _label_table(details: Details | None) -> str:
    if details is None or not details.metrics.by_label:
        return ""
    # A label that no row has can be neither found nor missed: last, without figures.
    scores = sorted(details.metrics.by_label, key=lambda score: (score.support == 0, score.f1))
    head = ("Label", "F1", "Precision", "Recall", "Support")
    table = _table(head, [_label_row(score) for score in scores], name="Figures by label")
    note = f"Of the {details.rows} rows, lowest F1 first. Support is how often the label is true."
    return _section("Labels", f'<p class="note">{note}</p>{table}')


def _label_row(score: LabelScore) -> tuple[str | float | int | None, ...]:
    figures = (score.f1, score.precision, score.recall) if score.support else (None, None, None)
    return (score.label, *figures, score.support)


def _facts(config: TrainConfig, record: RunRecord, history: Sequence[dict[str, Any]]) -> str:
    facts = {"Steps": f"{record.step:,} of {record.total_steps:,}"}
    if record.best_step is not None:
        facts["Weights kept"] = f"step {record.best_step:,}"
    if record.evaluation:
        split = " held out of the training rows" if record.evaluation.split == "holdout" else ""
        facts["Evaluation rows"] = f"{record.evaluation.num_rows:,}{split}, from {record.evaluation.source}"
    facts["Longest text"] = f"{record.max_length:,} tokens"
    if speeds := [line["texts_per_s"] for line in history if line.get("texts_per_s")]:
        facts["Throughput"] = f"{speeds[-1]:,.1f} texts/s, evaluation included"
        facts["Time"] = f"about {_duration(record.step * config.batch_size / speeds[-1])}"
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in record.made_by.items())
    rows = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return _section("This run", f'<dl class="facts">{rows}</dl>')


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
    head = _table(("Setting", "Value", "Default"), changed, name="Settings that differ") if changed else ""
    everything = _table(("Setting", "Value"), [(flag, _shown(value)) for flag, value, _ in values], name="All settings")
    lead = "Those that differ from the defaults." if changed else "All are the defaults."
    more = f"<details><summary>All {len(values)} settings</summary>{everything}</details>"
    return _section("Settings", f'<p class="note">{lead}</p>{head}{more}')


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{content}\n</section>"


def _image(picture: Picture, alt: str, *, narrow: Picture | None = None) -> str:
    """Embed a picture in both schemes, and for phones a narrow one of the same."""
    phone, dark = "(max-width: 34rem)", "(prefers-color-scheme: dark)"
    sources = [(dark, picture.dark)]
    if narrow is not None:
        sources = [(f"{phone} and {dark}", narrow.dark), (phone, narrow.light), *sources]
    choices = "".join(f'<source media="{media}" srcset="{_data(png)}">' for media, png in sources)
    kind = ' class="wide"' if picture.width > WIDEST_IMAGE else ""
    image = f'<img src="{_data(picture.light)}" alt="{alt}" width="{picture.width}"{kind}>'
    return f"<picture>{choices}{image}</picture>"


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str | float | int | None]], *, name: str) -> str:
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(map(_cell, rest))}</tr>' for first, *rest in rows
    )
    return _scrolling(f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>", name=name)


def _cell(value: str | float | int | None) -> str:
    match value:
        case None:
            return '<td class="number">–</td>'
        case float():  # a share, drawn as a bar as well
            return f'<td class="number share" style="--part:{value:.3f}">{value:.3f}</td>'
        case int():
            return f'<td class="number">{value:,}</td>'
        case str():
            return f"<td>{escape(value)}</td>"


def _scrolling(content: str, *, name: str, kind: str = "rows") -> str:
    return f'<div class="scrolls {kind}" role="region" tabindex="0" aria-label="{name}">{content}</div>'


# A policy of `default-src 'none'` makes "loads nothing" the browser's promise, not ours alone.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>%(title)s</title>
<link rel="icon" href="data:,">
<style>%(style)s</style>
</head>
<body>
<main>
%(body)s
</main>
</body>
</html>
"""

# Colours of paper, ink, muted and line are those of plots.LIGHT and plots.DARK.
_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #16181d; --muted: #5a6270; --line: #e3e6eb;
  --surface: #f6f7f9; --accent: #2457d6; --bar: #c9d8f8; --complete: #17683a; --interrupted: #8a4b00; }
@media (prefers-color-scheme: dark) { :root { --paper: #111418; --ink: #e9ebef; --muted: #a3abb8; --line: #2a3038;
  --surface: #191d23; --accent: #8ab4ff; --bar: #2f4a7d; --complete: #6fd39a; --interrupted: #f0b35c; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: clamp(2rem, 7vw, 5rem) clamp(1.25rem, 5vw, 2.5rem); }
h1 { font-size: clamp(1.9rem, 5.5vw, 2.75rem); line-height: 1.15; letter-spacing: -.025em; text-wrap: balance; }
h2 { font-size: 1.35rem; line-height: 1.3; letter-spacing: -.01em; margin-bottom: .75rem; }
h3 { font-size: 1rem; margin: 2.5rem 0 .75rem; }
section { margin-top: clamp(3rem, 8vw, 4.5rem); }
code { font: .9em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.kind, .note, dt, thead th { color: var(--muted); font-size: .875rem; }
.kind { margin-bottom: .5rem; }
.note { max-width: 40rem; margin-bottom: 1.25rem; }
.lead { margin-top: .75rem; font-size: 1.0625rem; color: var(--muted); }
.state { margin-top: 1.25rem; font-size: .875rem; font-weight: 600; color: var(--complete); }
.state::before { content: ""; display: inline-block; width: .55rem; height: .55rem; border-radius: 50%; background: currentColor;
  margin-right: .5rem; }
.state.interrupted { color: var(--interrupted); }
header ~ .note { margin-top: 2.5rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem; margin-top: 2.5rem; }
article { background: var(--surface); border-radius: 1rem; padding: 1.5rem 1.75rem; }
article h2 { font-size: .9375rem; letter-spacing: 0; margin: 0; }
article dl { display: flex; flex-wrap: wrap; gap: .75rem 2rem; }
article dd { font-weight: 600; font-variant-numeric: tabular-nums; }
article .note { margin: 1rem 0 0; }
.figure { color: var(--muted); margin: .25rem 0 1rem; }
.figure strong { display: block; color: var(--ink); font-size: 3.25rem; font-weight: 650; line-height: 1.15; letter-spacing: -.03em;
  font-variant-numeric: tabular-nums; }
img { display: block; max-width: 100%; height: auto; }
.matrix img { max-width: max(100%, 34rem); }
.matrix img.wide { max-width: none; }
.matrix:has(.wide) { border: 1px solid var(--line); border-radius: .75rem; }
.scrolls { overflow: auto; }
.rows, .matrix:has(.wide) { max-height: 36rem; }
.scrolls:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 4px; border-radius: .25rem; }
table { width: 100%; border-collapse: collapse; font-size: .9375rem; }
th, td { text-align: left; font-weight: 400; padding: .55rem 1rem .55rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; min-width: 5rem; vertical-align: top; }
tbody th { min-width: 9rem; }
thead th { position: sticky; top: 0; background: var(--paper); white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
.number { font-variant-numeric: tabular-nums; }
.share { background: linear-gradient(var(--bar), var(--bar)) 0 2.1rem / calc((100% - 1rem) * var(--part)) 3px no-repeat; }
.facts div { display: grid; grid-template-columns: 12rem 1fr; gap: .15rem 1rem; padding: .55rem 0; border-bottom: 1px solid var(--line); }
.facts div:last-child { border-bottom: 0; }
.facts dd { font-size: .9375rem; overflow-wrap: anywhere; }
details { margin-top: 1.5rem; }
summary { cursor: pointer; color: var(--accent); width: fit-content; margin-bottom: .75rem; }
@media (max-width: 34rem) { .facts div { grid-template-columns: 1fr; } .rows table { font-size: .875rem; } }
@media print { .scrolls { max-height: none !important; overflow: visible; } .matrix img.wide { max-width: 100%; } }
"""
