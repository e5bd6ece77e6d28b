"""Does a variant answer the evaluation rows as PyTorch does? Logits, decisions and the task's metric, each with its uncertainty.

A decision is a label, as it ships: each counts from its own threshold. Whether an answer abstains is none, and is reported beside: a level lies where answers are many, so it is crossed
four times as often as a label changes, by answers that are neither better nor worse for it, while the share of right ones among those given stays (docs/calibration.md).

Rows are few, and a limit on what is counted on them would refuse by chance. So two figures stand beside the counts:

expected change   a row is decided by a margin (the best logit less the second; a label's distance from its threshold), and the decision changes where the error
                  of that margin is larger and against it. Each margin is met with the errors of all rows of like margin: thousands of pairs, not three rows
                  that happened to change.
metric interval   of the change of the metric: 95 % by a delete-a-group jackknife, which serves any metric, F1 and correlations too (Efron and Tibshirani, 1993, chapter 11)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.encode import Encoded
from runtime.records import Record
from trainer.checkpoint import Checkpoint

from .reference import Floats

LEAST_LIKE, MOST_LIKE = 32, 512  # decisions by a like margin: a tenth of all, within these bounds
GROUPS = 20  # of the jackknife
STUDENT = 2.09  # two-sided 95 % of Student's t with GROUPS − 1 degrees of freedom
NORMAL = 1.96
QUANTILES = (0.5, 0.9, 0.99)


class RowFigures(NamedTuple):
    """How a variant answers the evaluation rows.

    Attributes:
        metrics: the task's metrics.
        agreement: share of decisions that are PyTorch's; regression: 1 − mean |difference| / standard deviation of PyTorch's answers.
        differing: decisions that are not PyTorch's; regression: answers off by more than a tenth of that deviation.
        decisions: how many there are.
        expected_change: the share of decisions expected to change (above); regression: mean |difference| / standard deviation.
        metric_change: of the task's headline metric, from PyTorch's.
        metric_interval: half the width of its 95 % confidence interval.
        max_difference: largest difference of a logit from PyTorch's.
        mean_difference: mean difference.
        quantiles: of the differences, at QUANTILES.
        abstaining: where there is an abstain level, the share of answers given ("coverage"), that of right ones among them ("precision"), and that of answers which abstain here or in PyTorch alone ("changed").
    """

    metrics: dict[str, float]
    agreement: float
    differing: int
    decisions: int
    expected_change: float
    metric_change: float
    metric_interval: float
    max_difference: float
    mean_difference: float
    quantiles: tuple[float, ...]
    abstaining: dict[str, float] | None = None

    @property
    def surely_changed(self) -> float:
        """The lower end of the 95 % interval of the share that changed (Wilson, 1927)."""
        share, n = self.differing / max(1, self.decisions), max(1, self.decisions)
        z2 = NORMAL**2
        middle = share + z2 / (2 * n)
        half = NORMAL * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
        return float(max(0.0, (middle - half) / (1 + z2 / n)))


def difference(expected: Floats, actual: Floats) -> float:
    """Give the largest difference of two arrays of logits: absolute up to logits of size 1, relative above, as fp32 rounds."""
    return float(np.max(np.abs(expected - actual) / np.maximum(1, np.abs(expected)), initial=0.0))


def compare_rows(
    expected: Sequence[Floats],
    actual: Sequence[Floats],
    *,
    checkpoint: Checkpoint,
    records: Sequence[Record],
    encoded: Encoded,
) -> RowFigures:
    """Compare a variant's logits on the evaluation rows with PyTorch's."""
    objective, parity = checkpoint.objective, PARITY[checkpoint.config.task]
    judge = (records, encoded.tokens, checkpoint.labels)
    differences = np.concatenate([np.abs(e - a).ravel() for e, a in zip(expected, actual, strict=True)])
    abstaining = _abstaining(expected, actual, checkpoint=checkpoint, records=records, encoded=encoded)
    expected, actual = checkpoint.centred(expected), checkpoint.centred(actual)
    same = parity.same(objective.decide(expected, *judge), objective.decide(actual, *judge))
    metrics = objective.measure(actual, *judge).values
    change = metrics[objective.best_metric] - objective.measure(expected, *judge).values[objective.best_metric]
    return RowFigures(
        metrics,
        *same,
        expected_change=parity.expected_change(expected, actual),
        metric_change=change,
        metric_interval=_interval(expected, actual, checkpoint=checkpoint, records=records, encoded=encoded),
        max_difference=float(differences.max(initial=0.0)),
        mean_difference=float(differences.mean()),
        quantiles=tuple(float(np.quantile(differences, at)) for at in QUANTILES),
        abstaining=abstaining,
    )


def _abstaining(
    expected: Sequence[Floats],
    actual: Sequence[Floats],
    *,
    checkpoint: Checkpoint,
    records: Sequence[Record],
    encoded: Encoded,
) -> dict[str, float] | None:
    answered = checkpoint.answered(records, encoded, actual)
    if answered is None or checkpoint.calibration is None:
        return None
    before, after = (checkpoint.calibration.sureness(np.stack(logits)) >= 0 for logits in (expected, actual))
    changed = float((before != after).mean())
    return {"coverage": answered.coverage, "precision": answered.precision, "changed": changed}


def _interval(
    expected: Sequence[Floats],
    actual: Sequence[Floats],
    *,
    checkpoint: Checkpoint,
    records: Sequence[Record],
    encoded: Encoded,
) -> float:
    """Give half the width of the interval of the metric's change; 1 where rows are too few to say anything."""
    groups = min(GROUPS, len(records))
    if groups < 2 or all(np.array_equal(e, a) for e, a in zip(expected, actual, strict=True)):
        return 0.0 if groups >= 2 else 1.0
    measure, name = checkpoint.objective.measure, checkpoint.objective.best_metric
    changes = []
    for group in range(groups):
        kept = [index for index in range(len(records)) if index % groups != group]
        tokens = encoded.tokens and [encoded.tokens[index] for index in kept]
        judge = ([records[index] for index in kept], tokens, checkpoint.labels)
        before, after = (
            measure([logits[index] for index in kept], *judge).values[name] for logits in (expected, actual)
        )
        changes.append(after - before)
    return float(STUDENT * np.sqrt((groups - 1) * np.var(changes)))


class Sameness(NamedTuple):
    """How far two lists of decisions agree; see RowFigures."""

    agreement: float
    differing: int
    decisions: int


class Parity(NamedTuple):
    """How the decisions of a task are compared.

    Attributes:
        same: (PyTorch's decisions, the variant's) → how far they agree.
        expected_change: (PyTorch's logits, the variant's) → see RowFigures.
        max_change: the limit of expected_change where none is given.
        changes: what an expected change is called.
        counts: whether decisions are the same or not, so that those that differ can be counted.
    """

    same: Callable[[npt.NDArray[Any], npt.NDArray[Any]], Sameness]
    expected_change: Callable[[Sequence[Floats], Sequence[Floats]], float]
    max_change: float
    changes: str = "is expected to change {:.2%} of decisions"
    counts: bool = True


def _equal(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> Sameness:
    differing = int((expected != actual).sum())
    return Sameness(1 - differing / max(1, len(expected)), differing, len(expected))


def _close(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> Sameness:
    spread = max(float(expected.std()), 1e-6)
    share = float(np.abs(expected - actual).mean()) / spread
    return Sameness(max(0.0, 1 - share), int((np.abs(expected - actual) > 0.1 * spread).sum()), len(expected))


def _best_of(expected: Sequence[Floats], actual: Sequence[Floats]) -> float:
    """Of a text's, or a token's, labels the best one counts."""
    before, after = (np.concatenate([np.atleast_2d(row) for row in logits]) for logits in (expected, actual))
    if before.shape[1] < 2:
        return 0.0
    best, second = np.argsort(-before, axis=1)[:, :2].T
    rows = np.arange(len(before))
    margins = before[rows, best] - before[rows, second]
    return expected_change(margins, after[rows, best] - after[rows, second] - margins)


def _each_label(expected: Sequence[Floats], actual: Sequence[Floats]) -> float:
    """Each label counts from a logit of 0, being centred."""
    before, after = np.concatenate(expected), np.concatenate(actual)
    return expected_change(np.abs(before), after - before)


def _share_of_spread(expected: Sequence[Floats], actual: Sequence[Floats]) -> float:
    before, after = np.concatenate(expected), np.concatenate(actual)
    return float(np.abs(after - before).mean() / max(float(before.std()), 1e-6))


def expected_change(margins: npt.NDArray[np.floating], errors: npt.NDArray[np.floating]) -> float:
    """Give the share of decisions that change when each margin may meet the error of any decision made by a like margin, half of the errors being against it.

    Like margins only: a model is most sensitive where it is undecided, so errors of sure decisions would understate it.

    Args:
        margins: (D,) by how much each decision was made.
        errors: (D,) by how much each margin moved.
    """
    order = np.argsort(margins, kind="stable")
    margins, sizes = margins[order], np.abs(errors[order])
    width = min(len(sizes), max(LEAST_LIKE, min(MOST_LIKE, len(sizes) // 10)))
    if not width:
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(sizes, width)  # (D − width + 1, width)
    middle = np.clip(np.arange(len(sizes)) - width // 2, 0, len(windows) - 1)
    near = margins <= sizes.max()  # no error reaches beyond
    return float((windows[middle[near]] > margins[near, None]).sum() / (2 * width * len(sizes)))


# The third of the three tables of tasks (runtime.tasks.TASKS, trainer.objectives.OBJECTIVES).
PARITY: dict[str, Parity] = {
    "single-label": Parity(_equal, _best_of, 0.005),
    "multi-label": Parity(_equal, _each_label, 0.005),
    "regression": Parity(
        _close, _share_of_spread, 0.02, "moves answers by {:.2%} of their standard deviation", counts=False
    ),
    "token": Parity(_equal, _best_of, 0.005),
}
