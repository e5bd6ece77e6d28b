"""How far two engines decide alike, and how well one decides where the data has labels: a row of JUDGES a task."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .encode import Tokens
from .records import Record
from .tasks import TASKS, Floats, Head, sigmoid

Decisions = npt.NDArray[Any]
Answer = dict[str, Any]  # the fields of a Prediction that its task sets


class Judge(NamedTuple):
    """How one task's answers are judged.

    Attributes:
        decide: a text's logits (C,) or (t, C) → its decisions, one or several.
        compare: the reference's decisions and another's → a share from 0 to 1.
        metric: the name of what `measure` gives.
        measure: answers and the records they are for → a figure, higher is better.
    """

    decide: Callable[[Floats, Head], Decisions]
    compare: Callable[[Decisions, Decisions], float]
    metric: str
    measure: Callable[[Sequence[Answer], Sequence[Record]], float]


def agreement(task: str, expected: Sequence[Floats], actual: Sequence[Floats], *, head: Head) -> float:
    """Count how far logits lead to the decisions of the reference's.

    Args:
        task: a key of JUDGES.
        expected: the reference's logits, a text each.
        actual: the other's.
        head: what turns logits into answers.

    Returns:
        single-label, multi-label, token: the share of decisions that are equal (a text, a text and label, a token). regression: 1 − mean |difference| /
        standard deviation of the reference's answers, at least 0.
    """
    judge = JUDGES[task]
    ours, others = (np.concatenate([judge.decide(row, head) for row in rows]) for rows in (expected, actual))
    return judge.compare(ours, others)


def quality(
    task: str, logits: Sequence[Floats], *, tokens: Sequence[Tokens | None], head: Head, records: Sequence[Record]
) -> float:
    """Measure answers against labels, by the metric that JUDGES names."""
    answers = list(TASKS[task].decode(logits, head, tokens))
    return JUDGES[task].measure(answers, records)


def _best(logits: Floats, head: Head) -> Decisions:
    return np.atleast_1d(logits.argmax(axis=-1))


def _chosen(logits: Floats, head: Head) -> Decisions:
    return np.asarray(sigmoid(logits / np.float32(head.temperature)) >= np.array(head.thresholds, dtype=np.float32))


def _value(logits: Floats, head: Head) -> Decisions:
    return logits


def _equal(expected: Decisions, actual: Decisions) -> float:
    return float((expected == actual).mean())


def _close(expected: Decisions, actual: Decisions) -> float:
    spread = max(float(expected.std()), 1e-6)
    return max(0.0, 1 - float(np.abs(expected - actual).mean()) / spread)


def _accuracy(answers: Sequence[Answer], records: Sequence[Record]) -> float:
    return float(np.mean([answer["label"] == record.label for answer, record in zip(answers, records, strict=True)]))


def _micro_f1(answers: Sequence[Answer], records: Sequence[Record]) -> float:
    found = {(row, label) for row, answer in enumerate(answers) for label in answer["labels"]}
    return _f1(found, {(row, label) for row, record in enumerate(records) for label in record.labels or ()})


def _span_f1(answers: Sequence[Answer], records: Sequence[Record]) -> float:
    found = {(row, e.start, e.end, e.label) for row, answer in enumerate(answers) for e in answer["entities"]}
    wanted = {(row, s.start, s.end, s.label) for row, record in enumerate(records) for s in record.spans or ()}
    return _f1(found, wanted)


def _pearson(answers: Sequence[Answer], records: Sequence[Record]) -> float:
    pairs = np.array([(answer["value"], record.score) for answer, record in zip(answers, records, strict=True)])
    if len(pairs) < 2 or not np.ptp(pairs, axis=0).all():  # a constant correlates with nothing
        return 0.0
    return float(np.clip(np.corrcoef(pairs.T)[0, 1], -1, 1))


def _f1(found: set[Any], wanted: set[Any]) -> float:
    return 2 * len(found & wanted) / max(1, len(found) + len(wanted))


JUDGES: dict[str, Judge] = {
    "single-label": Judge(_best, _equal, "accuracy", _accuracy),
    "multi-label": Judge(_chosen, _equal, "micro-F1", _micro_f1),
    "regression": Judge(_value, _close, "Pearson's r", _pearson),
    "token": Judge(_best, _equal, "span F1", _span_f1),
}
