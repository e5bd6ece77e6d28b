"""Reports of a run that never was, and how to read them."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from trainer import metrics
from trainer.checkpoint import RunRecord
from trainer.config import TrainConfig
from trainer.data import Evaluation
from trainer.metrics import Metrics
from trainer.report import write_report

LABELS = ("cancel", "refund", "track")
RECORD = RunRecord(
    learning_rate=1e-4,
    constant_loss=1.0,
    complete=True,
    step=40,
    total_steps=40,
    best_step=20,
    labels=LABELS,
    max_length=128,
    evaluation=Evaluation(source="/home/someone/dev.csv", sha256="a" * 64, split="eval", num_rows=6),
    eval=None,
    test=None,
    model_sha256="b" * 64,
    made_by={"portabert": "0.1.0", "torch": "2.9.0"},
    num_weights=22_700_000,
    num_trained=11_350_000,
)
TRUTH = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.eye(3, dtype=np.float32)[[0, 1, 1, 1, 2, 0]]


def single_label(labels: tuple[str, ...] = LABELS) -> Metrics:
    return metrics.single_label(TRUTH, PROBABILITIES, labels)


MEASURED: dict[str, Callable[[], Metrics]] = {
    "single-label": single_label,
    "multi-label": lambda: metrics.multi_label(np.eye(3, dtype=bool)[TRUTH], PROBABILITIES, LABELS),
    "regression": lambda: metrics.regression(np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.4, 0.9], dtype=np.float32)),
    "token": lambda: metrics.spans([["B-place", "O"], ["B-date", "I-date"]], [["B-place", "O"], ["B-date", "O"]]),
}
TASK_LABELS = {
    "single-label": LABELS,
    "multi-label": LABELS,
    "regression": ("score",),
    "token": ("O", "B-date", "I-date", "B-place", "I-place"),
}


def make_history(values: dict[str, float] | None = None) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in (10, 20, 30, 40):
        line = {
            "loss": 2 / step,
            "learning_rate": 1e-4 * (1 - step / 40),
            "seconds": 5.0,
            "texts_per_s": 64.0,
            "tokens_per_s": 1280.0,
        }
        lines.append({"step": step, "epoch": step / 20, **line})
        if values and step % 20 == 0:
            lines.append({"step": step, "epoch": step / 20, "eval": values})
    return lines


def write(folder: Path, **changes: Any) -> str:
    """Write a report and give its page."""
    given: dict[str, Any] = {
        "config": TrainConfig(),
        "record": RECORD,
        "history": make_history(),
        "measured": None,
        "tested": None,
        "labels": LABELS,
    }
    write_report(folder, **{**given, **changes})
    return (folder / "report.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """Give what a reader sees of a page, without styles and pictures."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def front_matter(folder: Path) -> dict[str, Any]:
    _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


class Elements(HTMLParser):
    """Every element of a page with its attributes, and whether each was closed in order."""

    VOID = frozenset({"meta", "link", "img", "source"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
