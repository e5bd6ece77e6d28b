"""How often probabilities are right, and what is decided with them. Pure functions of logits and truth; `learn` puts them together.

    temperature     logits are divided by it, so that probabilities are right as often as they say (Guo et al. 2017)
    thresholds      from which probability each label counts, where labels do not exclude each other
    abstain level   below which probability an answer is too unsure to be given

Bounds, least numbers of rows and shrinkage were chosen by measurement: docs/calibration.md.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from scipy.optimize import minimize_scalar

from runtime.tasks import sigmoid, softmax

Floats: TypeAlias = npt.NDArray[Any]
Truth: TypeAlias = npt.NDArray[Any]  # (D,) the index of the right label, or (D, C) whether each label is true

BOUNDS = (0.05, 20.0)  # of the temperature
LEAST_ROWS = 100  # on fewer a temperature does harm as often as good, and thresholds say little
NUM_BINS = 15  # as Guo et al. 2017
LEAST_TO_SHOW = 10  # decisions in a bin that is drawn
SHRINKAGE = 20  # rows with a label at which its own threshold counts as much as the one of all labels
EXTREMES = (0.01, 0.99)  # of a threshold
CONFIDENCE = 0.9  # that the precision asked for is reached


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


class Answered(NamedTuple):
    """Of some rows, how many are answered where the unsure ones are not, and how many of these answers are right."""

    num_rows: int
    answered: int
    right: int

    @property
    def coverage(self) -> float:
        """The share of rows that is answered."""
        return self.answered / self.num_rows

    @property
    def precision(self) -> float:
        """The share of answers that is right; 1 where there are none."""
        return self.right / self.answered if self.answered else 1.0


class Worth(NamedTuple):
    """What a calibration does to some rows; `answered` is None where there is no abstain level."""

    before: Fit
    after: Fit
    answered: Answered | None


class Calibration(NamedTuple):
    """What was learned; run.json holds it.

    Attributes:
        temperature: logits are divided by it; 1.0 leaves them.
        thresholds: the calibrated probability from which each label counts; None where labels exclude each other.
        abstain_below: answers whose calibrated probability is below are withheld; None: never.
        abstain_precision: the share of right answers that was asked for.
        num_rows: how many rows it was learned on.
        worth: what it does to the rows it was learned on ("eval"), and to those it was not ("test"), where there are any.
        remarks: what a person should know.
    """

    temperature: float
    thresholds: tuple[float, ...] | None
    abstain_below: float | None
    abstain_precision: float | None
    num_rows: int
    worth: dict[str, Worth]
    remarks: tuple[str, ...]

    def sureness(self, logits: Floats) -> Floats:
        """Give the log-odds (N,) of the best label of logits (N, C) above the abstain level; below 0 an answer is withheld."""
        assert self.abstain_below is not None
        level = min(self.abstain_below, 1 - 2**-25)  # what float32 rounds to 1
        ordered = np.sort(logits.astype(np.float64) / self.temperature, axis=1)
        return np.asarray(ordered[:, -1] - special.logsumexp(ordered[:, :-1], axis=1) - special.logit(level))

    def assess(self, evidence: Evidence) -> Worth:
        """Measure what it does to some rows."""
        answered = None
        if self.abstain_below is not None:
            confidence, right = evidence.outcomes(self.temperature)
            given = confidence >= self.abstain_below
            answered = Answered(len(right), int(given.sum()), int(right[given].sum()))
        return Worth(evidence.fit(1.0), evidence.fit(self.temperature), answered)

    def as_json(self) -> dict[str, Any]:
        """Give it as dicts and lists."""
        worth = {
            split: {
                "before": worth.before._asdict(),
                "after": worth.after._asdict(),
                "answered": worth.answered._asdict() if worth.answered else None,
            }
            for split, worth in self.worth.items()
        }
        return {**self._asdict(), "worth": worth}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Calibration":
        """Read what `as_json` gave."""
        worth = {
            split: Worth(
                Fit(**part["before"]),
                Fit(**part["after"]),
                Answered(**part["answered"]) if part["answered"] else None,
            )
            for split, part in values["worth"].items()
        }
        thresholds = None if values["thresholds"] is None else tuple(values["thresholds"])
        return cls(**{**values, "thresholds": thresholds, "remarks": tuple(values["remarks"]), "worth": worth})


def gather(logits: Sequence[Floats], targets: Sequence[Truth], likelihood: Likelihood) -> Evidence:
    """Put together what can be learned from texts: their logits, (C,) or (t, C), and their targets as a task's objective gives them."""
    return Evidence(*likelihood.flatten(logits, targets), len(logits), likelihood)


def learn(evidence: Evidence, *, abstain_precision: float | None = None) -> Calibration:
    """Learn temperature, thresholds and abstain level.

    Args:
        evidence: of evaluation rows.
        abstain_precision: the share of right answers that is wanted of those given; None: all are given.
    """
    remarks, level = [], None
    temperature, thresholds = 1.0, (0.5,) * evidence.logits.shape[1] if evidence.likelihood.has_thresholds else None
    if evidence.num_texts < LEAST_ROWS:
        what = "probabilities" if thresholds is None else "probabilities and thresholds"
        remarks.append(
            f"{what} are left as they are: {LEAST_ROWS} evaluation rows are needed, there are {evidence.num_texts}"
        )
    else:
        temperature = fit_temperature(evidence)
        remarks += _at_bound(temperature)
        if thresholds is not None:
            probabilities = sigmoid(scaled(evidence.logits, temperature))
            thresholds = tuple(fit_thresholds(probabilities, evidence.truth.astype(bool)).tolist())
    if abstain_precision is not None:
        level = abstain_level(*evidence.outcomes(temperature), precision=abstain_precision)
        if level is None:
            remarks.append(_out_of_reach(*evidence.outcomes(temperature), abstain_precision))
    learned = Calibration(temperature, thresholds, level, abstain_precision, evidence.num_texts, {}, tuple(remarks))
    return learned._replace(worth={"eval": learned.assess(evidence)})


def centre(logits: Sequence[Floats], calibration: Calibration | None) -> Sequence[Floats]:
    """Move the logits (C,) of texts so that each label with a threshold counts from 0; leave others, whose best label stays the best."""
    if calibration is None or calibration.thresholds is None:
        return logits
    borders = special.logit(calibration.thresholds)
    return [np.asarray(row / calibration.temperature - borders, dtype=np.float32) for row in logits]


def scaled(logits: Floats, temperature: float) -> Floats:
    """Divide logits as prediction does."""
    return np.asarray(logits / np.float32(temperature))


def fit_temperature(evidence: Evidence) -> float:
    """Find the temperature with the least negative log-likelihood (Guo et al. 2017, section 4.2); 1 where none is better.

    Each truth of D decisions is taken for 1 − 1/(D + 2) of one, Laplace's rule of succession, as Platt (1999, section 2.2) does: a model that is right on all rows would
    else be made infinitely sure.
    """
    smoothing = 1 / (evidence.truth.size + 2)

    def loss(log_temperature: float) -> float:
        return evidence.nll(float(np.exp(log_temperature)), smoothing=smoothing)

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-4})
    temperature = float(np.exp(found.x))
    return temperature if evidence.nll(temperature) < evidence.nll(1.0) else 1.0


def fit_thresholds(probabilities: Floats, truth: Truth, *, shrinkage: float = SHRINKAGE) -> Floats:
    """Find from which probability each label should count, for the highest F1.

    Few rows with a label say little about its threshold, so in log-odds it is drawn to the one that is best for all labels together: with n rows that have the
    label, its own counts n / (n + shrinkage).

    Args:
        probabilities: (N, C).
        truth: (N, C).
        shrinkage: 0 leaves each label to itself.

    Returns:
        (C,).
    """
    common = best_threshold(probabilities.ravel(), truth.ravel())
    own = np.array([best_threshold(*column) for column in zip(probabilities.T, truth.T, strict=True)])
    support = truth.sum(axis=0)
    weight = support / np.maximum(1e-9, support + shrinkage)
    mixed = weight * special.logit(own) + (1 - weight) * special.logit(common)
    return np.asarray(special.expit(mixed)).clip(*EXTREMES)


def best_threshold(probabilities: Floats, truth: Truth) -> float:
    """Find the threshold with the highest F1 of one question (N,), half-way between two probabilities; 0.5 where the answer is never yes."""
    if not truth.any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    given, hits = probabilities[order].astype(np.float64), np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + hits[-1])
    best = int(np.where(_ends_of_ties(given), f1, -1).argmax())
    below = given[best + 1] if best + 1 < len(given) else 0.0
    return float(np.clip((given[best] + below) / 2, *EXTREMES))


def abstain_level(confidence: Floats, right: npt.NDArray[np.bool_], *, precision: float) -> float | None:
    """Find the least confidence from which answers are right as often as is wanted, with a confidence of 90 %.

    By count alone the precision is reached on other rows half of the time. So what must reach it is the lower end of the one-sided interval of Clopper and Pearson (1934).

    Args:
        confidence: (N,) calibrated probabilities of the answers.
        right: (N,) whether they are right.
        precision: what is wanted.

    Returns:
        The level that answers most rows; where that is all of them the least confidence seen, for nothing is known of less. None where no level does it.
    """
    order = np.argsort(-confidence, kind="stable")
    given, hits = confidence[order].astype(np.float64), np.cumsum(right[order])
    enough = (_least_share(hits, np.arange(1, len(hits) + 1)) >= precision) & _ends_of_ties(given)
    if not enough.any():
        return None
    last = int(np.flatnonzero(enough)[-1])
    return float((given[last] + given[min(last + 1, len(given) - 1)]) / 2)


def precision_by_coverage(confidence: Floats, right: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Give the shares of rows that could be answered (K,), most confident first, and the share of right answers among each."""
    order = np.argsort(-confidence, kind="stable")
    number = np.arange(1, len(order) + 1)
    ends = _ends_of_ties(confidence[order])
    return (number / len(order))[ends], (np.cumsum(right[order]) / number)[ends]


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


def describe(calibration: Calibration) -> list[str]:
    """Say in lines for people what was learned, and what it does."""
    learned = [f"temperature {calibration.temperature:.3f}"]
    if calibration.thresholds is not None:
        learned.append(f"thresholds from {min(calibration.thresholds):.2f} to {max(calibration.thresholds):.2f}")
    if calibration.abstain_below is not None:
        learned.append(f"abstains below {calibration.abstain_below:.4f}")
    lines = [f"calibrated on {calibration.num_rows:,} evaluation rows: {', '.join(learned)}"]
    for split, worth in calibration.worth.items():
        line = f"{split} rows: calibration error {worth.before.ece:.4f} → {worth.after.ece:.4f}"
        if worth.answered is not None:
            line += f"; {worth.answered.coverage:.1%} are answered, {worth.answered.precision:.1%} of these right"
        lines.append(line)
    return lines + [f"warning: {remark}" for remark in calibration.remarks]


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


def _ends_of_ties(ordered: Floats) -> npt.NDArray[np.bool_]:
    """Tell where falling numbers may be cut: not between equal ones."""
    return np.append(ordered[:-1] > ordered[1:], True)


def _least_share(hits: Floats, number: Floats) -> Floats:
    """Give the lower end of the interval of a share: with it or less, so many hits or more would come about once in ten times."""
    return np.where(hits > 0, stats.beta.ppf(1 - CONFIDENCE, np.maximum(hits, 1), number - hits + 1), 0.0)


def _at_bound(temperature: float) -> list[str]:
    met = f"the temperature met its bound, {temperature:.3g}: "
    if temperature > BOUNDS[1] / 1.01:
        return [met + "the model is wrong where it is sure. Look at the labels of the evaluation rows"]
    if temperature < BOUNDS[0] * 1.01:
        return [
            met
            + "the model's logits are nearly equal. It was hardly trained: more --epochs, or a higher --learning-rate"
        ]
    return []


def _out_of_reach(confidence: Floats, right: npt.NDArray[np.bool_], precision: float) -> str:
    """Say how far from the wanted precision the rows are, and what to do."""
    order = np.argsort(-confidence, kind="stable")
    number, hits = np.arange(1, len(order) + 1), np.cumsum(right[order])
    least = np.where(_ends_of_ties(confidence[order]), _least_share(hits, number), 0.0)
    best = int(least.argmax())
    needed = int(np.ceil(np.log(1 - CONFIDENCE) / np.log(precision)))
    return (
        f"--abstain-precision {precision:g} is not reached, so no answer will be withheld: at best {hits[best]:,} of the {number[best]:,} surest answers "
        f"are right, {least[best]:.1%} with {CONFIDENCE:.0%} confidence. Ask for less, or give more evaluation rows ({needed:,} sure and right ones are the least)"
    )
