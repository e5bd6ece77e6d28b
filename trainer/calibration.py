"""How sure a model may be, and what is decided with that. Pure functions of logits and truth; `learn` puts them together.

    temperature     logits are divided by it, so that probabilities are right as often as they say (Guo et al. 2017)
    thresholds      from which probability each label counts, where labels do not exclude each other
    abstain level   below which probability an answer is too unsure to be given

Bounds, least numbers of rows and shrinkage were chosen by measurement: docs/calibration.md.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from scipy.optimize import minimize_scalar

from runtime.tasks import sigmoid

from .evidence import Evidence, Fit, Floats, Truth, scaled

BOUNDS = (0.05, 20.0)  # of the temperature
LEAST_ROWS = 100  # on fewer a temperature does harm as often as good, and thresholds say little
SHRINKAGE = 20  # rows with a label at which its own threshold counts as much as the one of all labels
EXTREMES = (0.01, 0.99)  # of a threshold
CONFIDENCE = 0.9  # that the precision asked for is reached


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
