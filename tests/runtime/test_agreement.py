"""How far two engines decide alike, by task, and how well one decides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime
from export.parity import PARITY
from runtime.agreement import JUDGES, agreement, quality
from runtime.bundle import read
from runtime.encode import Tokens
from runtime.model import open_head
from runtime.records import Record, Span
from runtime.tasks import Head
from runtime.testing import tiny_bundle


def head(tmp_path: Path, task: str) -> Head:
    return open_head(tiny_bundle(tmp_path / "b", task=task), read(tmp_path / "b"))


def rows(*values: Any) -> list[Any]:
    return [np.array(value, dtype=np.float32) for value in values]


AGREEMENTS: list[tuple[str, list[Any], list[Any], float]] = [
    ("single-label", rows([1, 2], [2, 1], [0, 3], [5, 4]), rows([1, 9], [1, 2], [0, 1], [5, 1]), 0.75),
    ("multi-label", rows([1, -1, 1], [-1, -1, -1]), rows([2, -2, -1], [-1, 3, -1]), 4 / 6),
    ("regression", rows([0], [1], [2], [3]), rows([0], [1], [2], [4]), 1 - 0.25 / np.std([0, 1, 2, 3])),
    ("regression", rows([0], [1]), rows([50], [-50]), 0.0),
    ("token", rows([[1, 0, 0], [0, 1, 0]], [[0, 0, 1]]), rows([[1, 0, 0], [0, 0, 1]], [[0, 0, 1]]), 2 / 3),
]


@pytest.mark.parametrize(("task", "expected", "actual", "share"), AGREEMENTS)
def test_agreement_is_the_share_of_equal_decisions(
    task: str, expected: list[Any], actual: list[Any], share: float, tmp_path: Path
) -> None:
    found = head(tmp_path, task)
    assert agreement(task, expected, actual, head=found) == pytest.approx(share)
    assert agreement(task, expected, expected, head=found) == 1.0


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_agreement_is_what_the_export_counts(task: str, tmp_path: Path) -> None:
    """Decisions of random logits, compared with export.parity's table."""
    generator = np.random.default_rng(0)
    found = head(tmp_path, task)
    expected = generator.normal(size=(50, len(found.labels))).astype(np.float32)
    actual = (expected + generator.normal(size=expected.shape) / 3).astype(np.float32)
    decide = JUDGES[task].decide
    ours = [np.concatenate([decide(row, found) for row in logits]) for logits in (expected, actual)]
    assert agreement(task, list(expected), list(actual), head=found) == pytest.approx(
        PARITY[task].same(*ours).agreement
    )


def test_a_level_changes_no_agreement_on_labels(tmp_path: Path) -> None:
    """Sure on one side and unsure on the other is another answer only where the label is another."""
    found = head(tmp_path, "single-label")._replace(abstain_below=0.75)
    assert agreement("single-label", rows([9, 0], [9, 0]), rows([1, 0], [0, 1]), head=found) == 0.5


def test_accuracy_is_the_share_of_right_labels(tmp_path: Path) -> None:
    records = [Record(text="a", label=label) for label in ("no", "yes", "maybe")]
    answered = rows([1, 0], [0, 1], [0, 1])
    found = quality("single-label", answered, tokens=[None] * 3, head=head(tmp_path, "single-label"), records=records)
    assert found == pytest.approx(2 / 3)


def test_micro_f1_counts_rows_and_labels(tmp_path: Path) -> None:
    records = [Record(text="a", labels=("delivery", "money")), Record(text="b", labels=()), Record(text="c", labels=())]
    answered = rows([1, -1, 1], [-1, -1, -1], [-1, 1, -1])  # of three found, one of two is right
    found = quality("multi-label", answered, tokens=[None] * 3, head=head(tmp_path, "multi-label"), records=records)
    assert found == pytest.approx(2 * 1 / (3 + 2))


@pytest.mark.parametrize(
    ("values", "r"), [([2, 4, 6], 1.0), ([3, 2, 1], -1.0), ([1, 1, 1], 0.0)], ids=["same", "opposite", "constant"]
)
def test_pearsons_r_of_a_regression(values: list[float], r: float, tmp_path: Path) -> None:
    records = [Record(text="a", score=score) for score in (1.0, 2.0, 3.0)]
    answered = rows(*([value] for value in values))
    found = quality("regression", answered, tokens=[None] * 3, head=head(tmp_path, "regression"), records=records)
    assert found == pytest.approx(r)


def test_span_f1_counts_whole_spans(tmp_path: Path, make_bundle: Callable[[str, str], Path]) -> None:
    """What the tagger itself finds is right in full, and a span that is a character longer is wrong."""
    classifier = runtime.load(make_bundle("bert", "token"), engine="ort-cpu")
    texts = ["My Kestrel 2 shows E-417 since last Tuesday", "Where is it?"]
    encoded = classifier.encode(texts)
    logits, tokens = classifier.logits(encoded), encoded.tokens
    predictions = classifier.predict(texts)
    spans = [[Span(start=e.start, end=e.end, label=e.label) for e in p.entities or ()] for p in predictions]
    total = sum(map(len, spans))
    assert total, "the tiny tagger finds something"

    def f1(truth: list[list[Span]]) -> float:
        records = [Record(text=text, spans=tuple(row)) for text, row in zip(texts, truth, strict=True)]
        given: list[Tokens | None] = list(tokens or ())
        return quality("token", logits, tokens=given, head=classifier._head, records=records)

    assert f1(spans) == 1.0
    first = next(row for row in spans if row)
    first[0] = Span(start=first[0].start, end=first[0].end + 1, label=first[0].label)
    assert f1(spans) == pytest.approx((total - 1) / total)
