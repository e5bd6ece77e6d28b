"""What a model's logits mean. A task is one row of TASKS, here for answers; `trainer.objectives` and `export.parity` have the rows of training and checking."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .encode import Encoder, Tokens
from .entities import STRATEGIES, Entity, find_entities, pipeline_entities
from .errors import InputError

Floats = npt.NDArray[np.float32]
Fields = Iterable[dict[str, Any]]


class Head(NamedTuple):
    """What turns logits into answers, the same for every text."""

    labels: tuple[str, ...]
    thresholds: tuple[float, ...] | None
    temperature: float
    encoder: Encoder
    abstain_below: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The answer for one text. Which fields are set depends on the task; the others are None.

    Attributes:
        label: single-label: the most probable label.
        score: single-label: its probability.
        labels: multi-label: the labels whose probability reaches their threshold, most probable first.
        scores: multi-label: their probabilities.
        value: regression: the number.
        entities: token: what was found, in the order of the text.
        abstained: single-label: whether the answer is too unsure to be used, its score being below the abstain level; None where there is no level.
        truncated: whether the text was longer than the model takes, so that its end was not read.
        task: the model's task.
        logits: what the model said: (C,), or (t, C) for a tagger.
    """

    label: str | None = None
    score: float | None = None
    labels: tuple[str, ...] | None = None
    scores: tuple[float, ...] | None = None
    value: float | None = None
    entities: tuple[Entity, ...] | None = None
    abstained: bool | None = None
    truncated: bool = False
    logits: Floats = field(repr=False, compare=False)
    task: str = field(repr=False)
    _head: Head = field(repr=False, compare=False)
    _tokens: Tokens | None = field(repr=False, compare=False)

    @property
    def calibrated(self) -> bool:
        """Whether its scores are probabilities calibrated on labelled rows; else they are the model's own."""
        return self._head.temperature != 1

    def probabilities(self, *, raw: bool = False) -> dict[str, float]:
        """Give every label's probability.

        Args:
            raw: as the model itself has it, without calibration.

        Raises:
            InputError: the task has no probabilities a text (regression, token).
        """
        activation = TASKS[self.task].activation
        if self._tokens is not None or activation is identity:
            raise InputError(f"a {self.task} answer has no probabilities by label.")
        temperature = np.float32(1 if raw else self._head.temperature)
        return dict(zip(self._head.labels, activation(self.logits / temperature).tolist(), strict=True))

    def to_pipeline(
        self, *, top_k: int | None = 1, function_to_apply: str | None = None, aggregation_strategy: str = "none"
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Give the item that a `transformers` pipeline gives for this text (raw model scores: no thresholds, no calibration).

        Args:
            top_k: text classification: how many labels, best first; None for all. 1 gives one dict, anything else a list.
            function_to_apply: text classification: "softmax", "sigmoid", "none"; None is the task's own.
            aggregation_strategy: token classification: "none", "simple", "first", "average" or "max".

        Raises:
            InputError: an unknown function or strategy.
        """
        if self._tokens is not None:
            if aggregation_strategy not in STRATEGIES:
                raise InputError(
                    f"aggregation_strategy must be one of {', '.join(STRATEGIES)}. Got {aggregation_strategy!r} instead."
                )
            return pipeline_entities(
                self.logits, self._tokens, self._head.encoder, self._head.labels, strategy=aggregation_strategy
            )
        if function_to_apply is not None and function_to_apply not in ACTIVATIONS:
            raise InputError(
                f"function_to_apply must be one of {', '.join(ACTIVATIONS)}. Got {function_to_apply!r} instead."
            )
        scores = (ACTIVATIONS[function_to_apply] if function_to_apply else TASKS[self.task].activation)(self.logits)
        best_first = np.argsort(-scores, kind="stable")[:top_k]
        items = [{"label": self._head.labels[index], "score": float(scores[index])} for index in best_first]
        return items[0] if top_k == 1 else items


def softmax(logits: Floats) -> Floats:
    """Turn (..., C) logits into probabilities that sum to 1, the same to the bit for a row alone and for one of many."""
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    # sum() may add in an order that depends on the number of rows.
    return np.asarray(exp / np.add.accumulate(exp, axis=-1)[..., -1:], dtype=np.float32)


def sigmoid(logits: Floats) -> Floats:
    """Turn (..., C) logits into independent probabilities, by transformers' formula: a tanh would make all below -17 equal zeros."""
    with np.errstate(over="ignore"):  # exp(89) is infinite, and 1 / infinity the right answer
        return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def identity(logits: Floats) -> Floats:
    """Leave logits as they are."""
    return logits


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {"softmax": softmax, "sigmoid": sigmoid, "none": identity}


def _decode_single_label(logits: Sequence[Floats], head: Head, tokens: Sequence[Tokens | None]) -> Fields:
    stacked = np.array(logits)  # (B, C)
    best = stacked.argmax(axis=-1)
    probabilities = softmax(stacked / np.float32(head.temperature))
    scores = probabilities[np.arange(len(best)), best]
    level = head.abstain_below
    unsure = [None] * len(best) if level is None else (scores < level).tolist()
    for index, score, abstained in zip(best.tolist(), scores.tolist(), unsure, strict=True):
        yield {"label": head.labels[index], "score": score, "abstained": abstained}


def _decode_multi_label(logits: Sequence[Floats], head: Head, tokens: Sequence[Tokens | None]) -> Fields:
    probabilities = sigmoid(np.array(logits) / np.float32(head.temperature))  # (B, C)
    chosen = probabilities >= np.array(head.thresholds, dtype=np.float32)
    best_first = np.argsort(-probabilities, axis=-1, kind="stable")
    for row, wanted, order in zip(probabilities.tolist(), chosen.tolist(), best_first.tolist(), strict=True):
        indices = [index for index in order if wanted[index]]
        yield {
            "labels": tuple(head.labels[index] for index in indices),
            "scores": tuple(row[index] for index in indices),
        }


def _decode_regression(logits: Sequence[Floats], head: Head, tokens: Sequence[Tokens | None]) -> Fields:
    return ({"value": float(row[0])} for row in logits)


def _decode_token(logits: Sequence[Floats], head: Head, tokens: Sequence[Tokens | None]) -> Fields:
    for row, token in zip(logits, tokens, strict=True):
        assert token is not None
        yield {"entities": find_entities(softmax(row / np.float32(head.temperature)), token, head.labels)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One task, as prediction sees it.

    Attributes:
        decode: (logits of each of B texts, (C,) or (t, C); head; tokens of each) → the fields of B Predictions, B being 1 or more.
        activation: what turns logits into scores.
        target: the field of a `Record` that holds the truth; a key of `records.TARGETS`.
        per_token: whether the model labels tokens.
        thresholds: whether each label has a threshold of its own.
        abstains: whether an answer can be withheld because it is unsure.
        columns: what scoring a file adds to it, and the field of the Prediction each comes from.
    """

    decode: Callable[[Sequence[Floats], Head, Sequence[Tokens | None]], Fields]
    activation: Callable[[Floats], Floats]
    target: str
    per_token: bool
    thresholds: bool
    abstains: bool
    columns: dict[str, str]


TASKS: dict[str, Task] = {
    "single-label": Task(
        decode=_decode_single_label,
        activation=softmax,
        target="label",
        per_token=False,
        thresholds=False,
        abstains=True,
        columns={"predicted_label": "label", "predicted_score": "score"},
    ),
    "multi-label": Task(
        decode=_decode_multi_label,
        activation=sigmoid,
        target="labels",
        per_token=False,
        thresholds=True,
        abstains=False,
        columns={"predicted_labels": "labels", "predicted_scores": "scores"},
    ),
    "regression": Task(
        decode=_decode_regression,
        activation=identity,
        target="score",
        per_token=False,
        thresholds=False,
        abstains=False,
        columns={"predicted_value": "value"},
    ),
    "token": Task(
        decode=_decode_token,
        activation=softmax,
        target="spans",
        per_token=True,
        thresholds=False,
        abstains=False,
        columns={"predicted_entities": "entities"},
    ),
}
