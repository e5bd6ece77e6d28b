"""How often probabilities are right: the decisions of some rows beside their truth, and measures of how well both agree. Pure functions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from runtime.tasks import sigmoid, softmax

Floats: TypeAlias = npt.NDArray[Any]
Truth: TypeAlias = npt.NDArray[Any]  # (D,) the index of the right label, or (D, C) whether each label is true

NUM_BINS = 15  # as Guo et al. 2017
LEAST_TO_SHOW = 10  # decisions in a bin that is drawn


class Likelihood(NamedTuple):
    """What probabilities a task's logits become.

    Attributes:
        flatten: (logits per text, targets per text) → logits (D, C) and their truth.
        nll: (logits, truth, smoothing) → the mean negative log-likelihood of a decision; `smoothing` is the share of each truth that is laid on what is wrong.
        outcomes: (logits, truth) → the probability of each decision, and whether it was right: of the best label, or of each label.
        has_thresholds: whether each label counts from a threshold of its own.
    """

    flatten: Callable[[Sequence[Floats], Sequence[Truth]], tuple[Floats, Truth]]
    nll: Callable[[Floats, Truth, float], float]
    outcomes: Callable[[Floats, Truth], tuple[Floats, npt.NDArray[np.bool_]]]
    has_thresholds: bool


class Evidence(NamedTuple):
    """What can be learned from: the logits (D, C) of the decisions of some texts, and their truth."""

    logits: Floats
    truth: Truth
    num_texts: int
    likelihood: Likelihood

    def nll(self, temperature: float, *, smoothing: float = 0.0) -> float:
        """Give the mean negative log-likelihood of a decision at a temperature."""
        return self.likelihood.nll(scaled(self.logits, temperature), self.truth, smoothing)

    def outcomes(self, temperature: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Give the probability (K,) of each decision at a temperature, and whether it was right."""
        return self.likelihood.outcomes(scaled(self.logits, temperature), self.truth)

    def fit(self, temperature: float) -> "Fit":
        """Measure how well the probabilities fit the truth."""
        return Fit(self.nll(temperature), expected_calibration_error(*self.outcomes(temperature)))


class Fit(NamedTuple):
    """How well probabilities fit the truth: mean negative log-likelihood and expected calibration error."""

    nll: float
    ece: float


def gather(logits: Sequence[Floats], targets: Sequence[Truth], likelihood: Likelihood) -> Evidence:
    """Put together what can be learned from texts: their logits, (C,) or (t, C), and their targets as a task's objective gives them."""
    return Evidence(*likelihood.flatten(logits, targets), len(logits), likelihood)


def scaled(logits: Floats, temperature: float) -> Floats:
    """Divide logits as prediction does."""
    return np.asarray(logits / np.float32(temperature))


class Bin(NamedTuple):
    """Decisions of like probability: their mean probability, the share that was right, how many they are."""

    confidence: float
    right: float
    number: int


def reliability(confidence: Floats, right: npt.NDArray[np.bool_]) -> list[Bin]:
    """Put decisions (K,) into 15 bins of equal number.

    Of equal number, not of equal width: a fine-tuned model is sure of nearly everything, so that one bin of equal width holds nearly all, the others a few rows each, and their noise
    would be the figure; bins of equal number are also the less biased (Nixon et al. 2019; Roelofs et al. 2022).
    """
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(NUM_BINS, len(confidence)))
    return [_bin(confidence, right, part) for part in parts]


def diagram(confidence: Floats, right: npt.NDArray[np.bool_]) -> list[Bin]:
    """Put decisions (K,) into 15 bins of equal width, to look at: those of equal number lie on top of each other. Bins with few decisions are left out, being noise."""
    places = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    parts = [np.flatnonzero(places == place) for place in range(NUM_BINS)]
    return [_bin(confidence, right, part) for part in parts if len(part) >= LEAST_TO_SHOW]


def expected_calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Give the mean distance between how sure and how right decisions are, over `reliability`'s bins (Naeini et al. 2015)."""
    return sum(part.number * abs(part.confidence - part.right) for part in reliability(confidence, right)) / len(right)


def _bin(confidence: Floats, right: npt.NDArray[np.bool_], part: npt.NDArray[np.intp]) -> Bin:
    return Bin(float(confidence[part].mean()), float(right[part].mean()), len(part))


def _flatten_labels(logits: Sequence[Floats], targets: Sequence[Truth]) -> tuple[Floats, Truth]:
    """Of a tagger's tokens only the first of each word has a target; the others' is negative."""
    flat, truth = np.concatenate([np.atleast_2d(row) for row in logits]), np.concatenate([*map(np.ravel, targets)])
    return flat[truth >= 0], truth[truth >= 0]


def _softmax_nll(logits: Floats, truth: Truth, smoothing: float) -> float:
    logs = special.log_softmax(logits.astype(np.float64), axis=1)
    right = -logs[np.arange(len(truth)), truth].mean()
    return float((1 - smoothing) * right - smoothing * logs.mean())


def _best_outcomes(logits: Floats, truth: Truth) -> tuple[Floats, npt.NDArray[np.bool_]]:
    return softmax(logits).max(axis=1), logits.argmax(axis=1) == truth


def _flatten_each(logits: Sequence[Floats], targets: Sequence[Truth]) -> tuple[Floats, Truth]:
    return np.stack(logits), np.stack(targets)


def _sigmoid_nll(logits: Floats, truth: Truth, smoothing: float) -> float:
    wide = logits.astype(np.float64)
    wanted = truth * (1 - 2 * smoothing) + smoothing
    return float((np.logaddexp(0, wide) - wanted * wide).mean())


def _each_outcome(logits: Floats, truth: Truth) -> tuple[Floats, npt.NDArray[np.bool_]]:
    return sigmoid(logits).ravel(), truth.ravel().astype(bool)


SOFTMAX = Likelihood(_flatten_labels, _softmax_nll, _best_outcomes, has_thresholds=False)
SIGMOID = Likelihood(_flatten_each, _sigmoid_nll, _each_outcome, has_thresholds=True)
