"""Metrics, from scikit-learn and SciPy where they have them. Each function gives the headline figures and a table by label."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics as sk

from runtime.conll import entities

Array = npt.NDArray[np.float32]


class LabelScore(NamedTuple):
    """How well one label is found; `support` is how often it is true."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Metrics(NamedTuple):
    """What a model reaches on some rows.

    Attributes:
        values: figures by name, between -1 and 1 except for errors.
        by_label: a row a label; empty for regression.
        confusion: (C, C) counts, truth by prediction; None where labels do not exclude each other.
    """

    values: dict[str, float]
    by_label: list[LabelScore]
    confusion: npt.NDArray[np.int64] | None


LOWER_IS_BETTER = frozenset({"rmse"})


def is_better(name: str, value: float, best: float | None) -> bool:
    """Tell whether a metric's value beats the best so far, None where there is none yet."""
    return best is None or (value < best if name in LOWER_IS_BETTER else value > best)


def single_label(truth: npt.NDArray[np.int64], probabilities: Array, labels: Sequence[str]) -> Metrics:
    """Accuracy and macro-F1 over the labels that occur. `truth` (N,), `probabilities` (N, C)."""
    predicted, known = probabilities.argmax(axis=-1), list(range(len(labels)))
    values = {
        "accuracy": float(sk.accuracy_score(truth, predicted)),
        "macro_f1": float(sk.f1_score(truth, predicted, average="macro", zero_division=0.0)),
    }
    return Metrics(values, _by_label(truth, predicted, labels), sk.confusion_matrix(truth, predicted, labels=known))


def multi_label(truth: npt.NDArray[np.bool_], probabilities: Array, labels: Sequence[str]) -> Metrics:
    """Micro- and macro-F1 at probability 0.5, and mean average precision over the labels that occur. Both (N, C)."""
    present, known = truth.any(axis=0), range(len(labels))
    # scikit-learn takes a single column for a binary task; an empty column beside it keeps the question.
    wanted, found = (np.pad(array, ((0, 0), (0, 1))) for array in (truth, probabilities >= 0.5))  # (N, C+1)
    values = {
        "micro_f1": float(sk.f1_score(wanted, found, labels=known, average="micro", zero_division=0.0)),
        "macro_f1": float(sk.f1_score(wanted, found, labels=known, average="macro", zero_division=0.0)),
        "map": float(sk.average_precision_score(truth[:, present], probabilities[:, present], average="macro"))
        if present.any()
        else 0.0,
    }
    return Metrics(values, _by_label(wanted, found, labels), None)


def regression(truth: npt.NDArray[np.float64], predicted: Array) -> Metrics:
    """Spearman and Pearson correlation, and the root of the mean squared error. Correlations of constants count as 0. Both (N,)."""
    varies = len(truth) > 1 and np.ptp(truth) > 0 and np.ptp(predicted) > 0
    values = {
        "spearman": float(stats.spearmanr(truth, predicted).statistic) if varies else 0.0,
        "pearson": float(stats.pearsonr(truth, predicted).statistic) if varies else 0.0,
        "rmse": float(np.sqrt(np.mean((truth - predicted) ** 2))),
    }
    return Metrics(values, [], None)


def spans(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Metrics:
    """Precision, recall and F1 of whole entities, as conlleval counts: a span is right when both ends and the type are. BIO tags by text and word."""
    wanted = {(row, *span) for row, tags in enumerate(truth) for span in entities(list(tags))}
    found = {(row, *span) for row, tags in enumerate(predicted) for span in entities(list(tags))}
    types = sorted({span[-1] for span in wanted | found})
    by_label = [
        LabelScore(
            name,
            *_prf({s for s in wanted if s[-1] == name}, {s for s in found if s[-1] == name}),
            sum(s[-1] == name for s in wanted),
        )
        for name in types
    ]
    precision, recall, f1 = _prf(wanted, found)
    return Metrics({"span_f1": f1, "span_precision": precision, "span_recall": recall}, by_label, None)


def _prf(wanted: set[tuple[int, int, int, str]], found: set[tuple[int, int, int, str]]) -> tuple[float, float, float]:
    right = len(wanted & found)
    precision, recall = right / max(1, len(found)), right / max(1, len(wanted))
    return precision, recall, 2 * right / max(1, len(found) + len(wanted))


def _by_label(
    truth: npt.NDArray[np.generic], predicted: npt.NDArray[np.generic], labels: Sequence[str]
) -> list[LabelScore]:
    columns = sk.precision_recall_fscore_support(truth, predicted, labels=range(len(labels)), zero_division=0.0)
    return [
        LabelScore(label, float(p), float(r), float(f), int(n))
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    ]
