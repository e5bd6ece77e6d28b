"""The gate: what a variant may change on the evaluation rows, and what is done where it changes more."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from runtime.encode import Encoded
from runtime.model import Classifier
from runtime.records import Record
from trainer.checkpoint import Checkpoint

from .config import ExportConfig
from .parity import PARITY, RowFigures, compare_rows, difference
from .reference import Floats
from .restore import Restored, Trial, restore

SENSITIVITY_ROWS = 128  # on which single weights are measured: their order matters, not the third digit


class Rows(NamedTuple):
    """The evaluation rows.

    Attributes:
        checkpoint: the model's.
        records: with their labels.
        encoded: as token ids.
        expected: PyTorch's logits.
    """

    checkpoint: Checkpoint
    records: Sequence[Record]
    encoded: Encoded
    expected: Sequence[Floats]

    def compare(self, actual: Sequence[Floats]) -> RowFigures:
        """Compare logits with PyTorch's."""
        return compare_rows(
            self.expected, actual, checkpoint=self.checkpoint, records=self.records, encoded=self.encoded
        )


def fit_int8(
    name: str,
    write: Callable[[frozenset[str]], Mapping[str, int]],
    open_it: Callable[[], Classifier],
    rows: Rows,
    config: ExportConfig,
    *,
    say: Callable[[str], None],
) -> Restored:
    """Write an int8 variant so that it passes, with weights in fp32 where it must; the last trial says whether it did.

    Args:
        name: the variant.
        write: writes it with these weights in fp32.
        open_it: opens what was written.
        rows: the evaluation rows.
        config: the limits.
        say: where lines for people go.
    """
    number = min(SENSITIVITY_ROWS, len(rows.records))
    few = np.arange(number) * len(rows.records) // number
    sample = Encoded(rows.encoded.batch.take(few), rows.encoded.truncated[few], None)

    def judge() -> tuple[RowFigures, tuple[str, ...]]:
        figures = rows.compare(open_it().logits(rows.encoded))
        return figures, gate_reduced(name, figures, rows, config)

    def error() -> float:
        actual = open_it().logits(sample)
        squares = [np.square(rows.expected[row] - logits) for row, logits in zip(few.tolist(), actual, strict=True)]
        return float(np.sqrt(np.concatenate([square.ravel() for square in squares]).mean()))

    if not config.restore:
        sizes = write(frozenset())
        return Restored((Trial((), *judge()),), {}, len(sizes))
    return restore(write, judge, error, say=say)


def gate_reduced(name: str, figures: RowFigures, rows: Rows, config: ExportConfig) -> tuple[str, ...]:
    """List what is over the limits."""
    parity, metric = PARITY[rows.checkpoint.config.task], rows.checkpoint.objective.best_metric
    limit = parity.max_change if config.max_change is None else config.max_change
    problems, surely_lost = [], -figures.metric_change - figures.metric_interval
    if not figures.expected_change <= limit:
        problems.append(f"{name} {parity.changes.format(figures.expected_change)}; --max-change is {limit:.2%}")
    elif parity.counts and not figures.surely_changed <= limit:
        problems.append(
            f"{name} changes {figures.differing} of {figures.decisions} decisions; --max-change is {limit:.2%}"
        )
    if not surely_lost <= config.max_metric_drop:
        problems.append(
            f"{name} loses {-figures.metric_change:.4f} ± {figures.metric_interval:.4f} of {metric} "
            f"on {len(rows.records)} rows; --max-metric-drop is {config.max_metric_drop:g}"
        )
    return tuple(problems)


def gate_fp32(expected: Sequence[Floats], actual: Sequence[Floats], config: ExportConfig) -> list[str]:
    """List what is over the limit."""
    worst = max(difference(e, a) for e, a in zip(expected, actual, strict=True))
    if worst <= config.max_fp32_difference:
        return []
    return [
        f"fp32 logits differ by {worst:.1e} on the evaluation rows; --max-fp32-difference is {config.max_fp32_difference:g}"
    ]
