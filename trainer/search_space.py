"""What --tune may vary, and how far from the value that is given. A range always holds that value, for the first trial has it."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from .config import TrainConfig


class Range(NamedTuple):
    """Any number between two; `log` where a factor counts, not a difference."""

    low: float
    high: float
    log: bool = False


class Choice(NamedTuple):
    """One of a few numbers."""

    values: tuple[int, ...]


Space: TypeAlias = dict[str, Range | Choice]


def _learning_rate(config: TrainConfig) -> Range:
    """Span a factor of 5 both ways: 2e-5 to 5e-4 for models 384 wide, 1e-5 to 2.5e-4 for those of 768."""
    given = config.learning_rate
    assert given is not None, "the search has filled it in"
    return Range(given / 5, max(given, min(5 * given, 0.5)), log=True)


def _batch_size(config: TrainConfig) -> Choice:
    """Halve and double; a batch must not have fewer rows than parts."""
    half = max(1, config.gradient_accumulation, config.batch_size // 2)
    return Choice(tuple(sorted({half, config.batch_size, 2 * config.batch_size})))


# The number of epochs is none of them: a trial would then be compared with others at another point of its learning rate's fall, and the longest
# would cost most. --epochs is what every trial may take; which of its evaluations had the best weights is found in each anyway.
SPACE: dict[str, Callable[[TrainConfig], Range | Choice]] = {
    "learning_rate": _learning_rate,
    "batch_size": _batch_size,
    # .75 leaves a sixth of the learning rate to the lowest of six layers, 3 % to that of twelve.
    "layer_decay": lambda config: Range(min(0.75, config.layer_decay), 1.0),
    "warmup_fraction": lambda config: Range(0.0, max(0.2, config.warmup_fraction)),
    "weight_decay": lambda config: Range(0.0, max(0.1, config.weight_decay)),
    "label_smoothing": lambda config: Range(0.0, max(0.15, config.label_smoothing)),
}


def space_of(config: TrainConfig) -> Space:
    """Lay out what a search varies."""
    return {name: SPACE[name](config) for name in config.tune_over}
