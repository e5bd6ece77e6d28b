"""What each task trains on and is judged by: one row of OBJECTIVES a task."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from runtime.conll import bio, entities
from runtime.encode import Encoded, Tokens
from runtime.entities import first_tokens
from runtime.errors import InputError
from runtime.records import Record, bio_tags, word_spans
from runtime.tasks import sigmoid, softmax

from . import losses, metrics
from .evidence import SIGMOID, SOFTMAX, Likelihood
from .losses import IGNORED, Floats, LossOptions, Target
from .metrics import Metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """One task, as training sees it.

    Attributes:
        auto_model: the class of transformers' that has its head.
        problem_type: what the checkpoint's config says, so that transformers' pipeline applies the right function.
        labels_of: the label names a row uses.
        find_labels: (rows, --labels) → the label of each logit.
        known: the label of each logit → the names rows may use.
        targets: (rows, encoded rows, labels) → what the loss compares with, per text.
        loss: (logits, targets, options) → the sum of the losses.
        count: targets → what the sum is divided by.
        standardised: whether targets are scores in a unit of their own, which are learned in standard deviations (scale.py).
        prior: targets → the logits (C,) a new head starts from, or None where they start at 0.
        weigh: targets, number of labels, key of losses.WEIGHTINGS → weights (C,) that balance the labels.
        constant_loss: (targets, some of them) → the mean loss, on these, of the answer that is the best of those that are the same for all texts.
        decide: (logits per text, rows, tokens, labels) → decisions, flat, in the same order for every model of the same rows.
        measure: (logits per text, rows, tokens, labels) → metrics.
        likelihood: what is calibrated; None where logits are no probabilities.
        metrics: the names of the metrics that `measure` gives.
        best_metric: the one that chooses the best checkpoint.
    """

    auto_model: str
    problem_type: str | None
    labels_of: Callable[[Record], Iterable[str]]
    find_labels: Callable[[Sequence[Record], tuple[str, ...] | None], tuple[str, ...]]
    known: Callable[[tuple[str, ...]], frozenset[str]]
    targets: Callable[[Sequence[Record], Encoded, tuple[str, ...]], list[Target]]
    loss: Callable[[torch.Tensor, torch.Tensor, LossOptions], torch.Tensor]
    count: Callable[[Sequence[Target]], int]
    standardised: bool
    prior: Callable[[Sequence[Target]], Floats] | None
    weigh: Callable[[Sequence[Target], int, str], Floats]
    constant_loss: Callable[[Sequence[Target], Sequence[Target]], float]
    decide: Callable[[Sequence[Floats], Sequence[Record], Sequence[Tokens] | None, tuple[str, ...]], npt.NDArray[Any]]
    measure: Callable[[Sequence[Floats], Sequence[Record], Sequence[Tokens] | None, tuple[str, ...]], Metrics]
    likelihood: Likelihood | None
    metrics: tuple[str, ...]
    best_metric: str


def natural_sort(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names as people do: "2" before "10", case aside."""
    return tuple(
        sorted(
            set(names),
            key=lambda name: (
                [
                    (not part.isdecimal(), int(part) if part.isdecimal() else 0, part.casefold())
                    for part in re.split(r"(\d+)", name)
                    if part
                ],
                name,
            ),
        )
    )


def _gather_labels(
    labels_of: Callable[[Record], Iterable[str]], least: int, records: Sequence[Record], given: tuple[str, ...] | None
) -> tuple[str, ...]:
    labels = given or natural_sort(label for record in records for label in labels_of(record))
    if len(labels) < least:
        raise InputError(
            f"a model needs at least {least} different labels to learn. Got {list(labels)} instead; look at --label-column."
        )
    return labels


# single-label


def _label_of(record: Record) -> Iterable[str]:
    assert record.label is not None
    return (record.label,)


def _single_targets(records: Sequence[Record], encoded: Encoded, labels: tuple[str, ...]) -> list[Target]:
    index = {label: position for position, label in enumerate(labels)}
    return [np.array(index[record.label or ""], dtype=np.int64) for record in records]


def _argmax(
    logits: Sequence[Floats], records: Sequence[Record], tokens: Sequence[Tokens] | None, labels: tuple[str, ...]
) -> npt.NDArray[Any]:
    return np.asarray(np.stack(logits).argmax(axis=-1))


def _measure_single(
    logits: Sequence[Floats], records: Sequence[Record], tokens: Sequence[Tokens] | None, labels: tuple[str, ...]
) -> Metrics:
    truth = np.array([labels.index(record.label or "") for record in records])
    return metrics.single_label(truth, softmax(np.stack(logits)), labels)


# multi-label


def _multi_targets(records: Sequence[Record], encoded: Encoded, labels: tuple[str, ...]) -> list[Target]:
    return [np.array([label in (record.labels or ()) for label in labels], dtype=np.float32) for record in records]


def _log_odds(targets: Sequence[Target]) -> Floats:
    """Start every label at its frequency (Lin et al. 2017, section 4.1).

    From 0 the head would first have to push every rare label down, through features that are the same for all texts: on GoEmotions (28 labels) the
    encoder collapsed over it (docs/LOG.md).
    """
    share = np.stack(targets).mean(axis=0).clip(1 / (len(targets) + 1), 1 - 1 / (len(targets) + 1))
    return np.asarray(np.log(share / (1 - share)), dtype=np.float32)


def _over_half(
    logits: Sequence[Floats], records: Sequence[Record], tokens: Sequence[Tokens] | None, labels: tuple[str, ...]
) -> npt.NDArray[Any]:
    return (np.stack(logits) >= 0).ravel()  # one decision a row and label


def _measure_multi(
    logits: Sequence[Floats], records: Sequence[Record], tokens: Sequence[Tokens] | None, labels: tuple[str, ...]
) -> Metrics:
    truth = np.array([[label in (record.labels or ()) for label in labels] for record in records])
    return metrics.multi_label(truth, sigmoid(np.stack(logits)), labels)


# regression


def _find_score(records: Sequence[Record], given: tuple[str, ...] | None) -> tuple[str, ...]:
    scores = {record.score for record in records}
    if len(scores) == 1:
        raise InputError(
            f"a model needs at least 2 different scores to learn. Got {[*scores]} instead; look at --label-column."
        )
    return given or ("score",)


def _score_targets(records: Sequence[Record], encoded: Encoded, labels: tuple[str, ...]) -> list[Target]:
    return [np.array(record.score, dtype=np.float32) for record in records]


def _values(
    logits: Sequence[Floats], records: Sequence[Record], tokens: Sequence[Tokens] | None, labels: tuple[str, ...]
) -> npt.NDArray[Any]:
    return np.stack(logits)[:, 0]


def _measure_regression(
    logits: Sequence[Floats], records: Sequence[Record], tokens: Sequence[Tokens] | None, labels: tuple[str, ...]
) -> Metrics:
    return metrics.regression(np.array([record.score for record in records]), np.stack(logits)[:, 0])


# token


def _types_of(record: Record) -> Iterable[str]:
    return (span.label for span in record.spans or ())


def _find_tags(records: Sequence[Record], given: tuple[str, ...] | None) -> tuple[str, ...]:
    types = _gather_labels(_types_of, 1, records, given)
    return ("O", *(f"{prefix}-{name}" for name in types for prefix in "BI"))


def _known_types(tags: tuple[str, ...]) -> frozenset[str]:
    return frozenset(tag[2:] for tag in tags if tag != "O")


def _tag_targets(records: Sequence[Record], encoded: Encoded, labels: tuple[str, ...]) -> list[Target]:
    assert encoded.tokens is not None
    index = {label: position for position, label in enumerate(labels)}
    targets = []
    for record, tokens in zip(records, encoded.tokens, strict=True):
        target = np.full(len(tokens.input_ids), IGNORED, dtype=np.int64)
        words, starts, ends = _token_words(tokens)
        target[words[_one_of_each(record, ends)]] = index["O"]
        for span in record.spans or ():
            inside = words[(ends > span.start) & (starts < span.end)]
            target[inside] = index[f"I-{span.label}"]
            target[inside[:1]] = index[f"B-{span.label}"]
        targets.append(target)
    return targets


def _one_of_each(record: Record, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Choose one of the tokeniser's words, given where they end (some begin at the space before), for each of a row's own, each place in turn.

    A link is one word of ours and ten of a tokeniser's. Were each of those a target, links would drown entities out (docs/LOG.md); were it always the first,
    nothing would be learned of the others, which are tagged all the same where a model is asked about a text.
    """
    own = np.searchsorted([start for start, _ in words_of(record)], ends - 1, side="right")
    _, first, size = np.unique(own, return_index=True, return_counts=True)
    chosen = np.zeros(len(ends), dtype=np.bool_)
    chosen[first + np.arange(len(first)) % size] = True
    return chosen


def _word_tags(
    logits: Sequence[Floats], records: Sequence[Record], tokens: Sequence[Tokens] | None, labels: tuple[str, ...]
) -> npt.NDArray[Any]:
    """Tag the original words: each has the tag of its first token, and O where truncation cut it off, which counts as missed."""
    assert tokens is not None
    return np.array([tag for row in zip(logits, records, tokens, strict=True) for tag in tags_of_words(*row, labels)])


def tags_of_words(logits: Floats, record: Record, tokens: Tokens, labels: tuple[str, ...]) -> list[str]:
    """Give the BIO tags of a row's own words, as they are measured."""
    words, before = list[str](), None
    for first in token_words_of(record, tokens):
        tag = "O" if first is None else labels[logits[first].argmax()]
        # SentencePiece's "E-417" is one word, and three of ours: one entity, not three.
        words.append(f"I-{tag[2:]}" if first == before and tag != "O" else tag)
        before = first
    return bio(entities(words), len(words))


def token_words_of(record: Record, tokens: Tokens) -> list[int | None]:
    """Give for each of a row's own words the first token of the tokeniser's word that it lies in; None where truncation cut it off."""
    firsts, starts, ends = _token_words(tokens)
    found = list[int | None]()
    for start, end in words_of(record):
        position = int(np.searchsorted(ends, start, side="right"))  # the first that ends behind our word's start
        inside = position < len(firsts) and starts[position] < end
        found.append(int(firsts[position]) if inside else None)
    return found


class _TokenWords(NamedTuple):
    """The W words that the tokeniser found: their first tokens, and their first character and the one behind their last."""

    firsts: npt.NDArray[np.intp]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


def _token_words(tokens: Tokens) -> _TokenWords:
    firsts = first_tokens(tokens)
    ends = np.maximum.reduceat(tokens.offsets[:, 1], firsts) if len(firsts) else np.zeros(0, dtype=np.int64)
    return _TokenWords(firsts, tokens.offsets[firsts, 0], ends)


def words_of(record: Record) -> Sequence[tuple[int, int]]:
    """Give a row's own words, as (start, end)."""
    return record.words if record.words is not None else word_spans(record.text)


def _measure_token(
    logits: Sequence[Floats], records: Sequence[Record], tokens: Sequence[Tokens] | None, labels: tuple[str, ...]
) -> Metrics:
    assert tokens is not None
    truth = [bio_tags(words_of(record), record.spans or ()) for record in records]
    predicted = [tags_of_words(*row, labels) for row in zip(logits, records, tokens, strict=True)]
    return metrics.spans(truth, predicted)


OBJECTIVES: dict[str, Objective] = {
    "single-label": Objective(
        auto_model="AutoModelForSequenceClassification",
        problem_type="single_label_classification",
        labels_of=_label_of,
        find_labels=lambda records, given: _gather_labels(_label_of, 2, records, given),
        known=frozenset,
        targets=_single_targets,
        loss=losses.cross_entropy,
        count=len,
        standardised=False,
        prior=None,
        weigh=losses.label_weights,
        constant_loss=losses.constant_cross_entropy,
        decide=_argmax,
        measure=_measure_single,
        likelihood=SOFTMAX,
        metrics=("accuracy", "macro_f1"),
        best_metric="accuracy",
    ),
    "multi-label": Objective(
        auto_model="AutoModelForSequenceClassification",
        problem_type="multi_label_classification",
        labels_of=lambda record: record.labels or (),
        find_labels=lambda records, given: _gather_labels(lambda record: record.labels or (), 1, records, given),
        known=frozenset,
        targets=_multi_targets,
        loss=losses.binary_cross_entropy,
        count=lambda targets: sum(target.size for target in targets),
        standardised=False,
        prior=_log_odds,
        weigh=losses.presence_weights,
        constant_loss=losses.constant_binary_cross_entropy,
        decide=_over_half,
        measure=_measure_multi,
        likelihood=SIGMOID,
        metrics=("micro_f1", "macro_f1", "map"),
        best_metric="micro_f1",
    ),
    "regression": Objective(
        auto_model="AutoModelForSequenceClassification",
        problem_type="regression",
        labels_of=lambda record: (),
        find_labels=_find_score,
        known=frozenset,
        targets=_score_targets,
        loss=losses.square_error,
        count=len,
        standardised=True,
        prior=None,
        weigh=lambda targets, num_labels, weighting: np.ones(num_labels, dtype=np.float32),
        constant_loss=losses.constant_square_error,
        decide=_values,
        measure=_measure_regression,
        likelihood=None,
        metrics=("spearman", "pearson", "rmse"),
        best_metric="spearman",
    ),
    "token": Objective(
        auto_model="AutoModelForTokenClassification",
        problem_type=None,
        labels_of=_types_of,
        find_labels=_find_tags,
        known=_known_types,
        targets=_tag_targets,
        loss=losses.cross_entropy,
        count=lambda targets: sum(int((target != IGNORED).sum()) for target in targets),
        standardised=False,
        prior=None,
        weigh=losses.label_weights,
        constant_loss=losses.constant_cross_entropy,
        decide=_word_tags,
        measure=_measure_token,
        likelihood=SOFTMAX,
        metrics=("span_f1", "span_precision", "span_recall"),
        best_metric="span_f1",
    ),
}
