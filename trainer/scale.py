"""Scores in any unit, learned as differences from their mean in standard deviations.

    in training   logit = w · x + b                     compared with (score - mean) / deviation
    as shipped    score = (deviation · w) · x + (deviation · b + mean)

AdamW moves a weight by about the learning rate a step, whatever the gradient: a head that starts at 0 gets to scores between 0 and 1 in a run, never to those between 0 and 100. In standard
deviations all units are one, and bf16 keeps its eight bits for what differs between texts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .kept import Kept
from .losses import Floats, Target


class Scale(NamedTuple):
    """What a logit of 0 stands for, and what a difference of 1 does: `mean` and `deviation`, in the unit of the scores."""

    mean: float
    deviation: float

    def standardise(self, targets: Sequence[Target]) -> list[Target]:
        """Give what logits in training are compared with: () float32 a text."""
        return [((target.astype(np.float64) - self.mean) / self.deviation).astype(np.float32) for target in targets]

    def to_scores(self, logits: Sequence[Floats]) -> list[Floats]:
        """Give the scores that logits in training stand for: (1,) a text."""
        return [(row.astype(np.float64) * self.deviation + self.mean).astype(np.float32) for row in logits]


def find_scale(targets: Sequence[Target], *, centred: bool) -> Scale:
    """Measure the scores of the training rows.

    Args:
        targets: scores, () a text.
        centred: whether the mean can be taken off, or the model has no bias that would bring it back (GPT-2's head); then the deviation is that from 0.
    """
    scores = np.stack(targets).astype(np.float64)
    mean = float(scores.mean()) if centred else 0.0
    deviation = float(np.sqrt(np.square(scores - mean).mean()))
    return Scale(mean, deviation or 1.0)  # scores that are all the same have none


class Scaled:
    """A model in training whose head answers in standard deviations, kept as one that answers in scores.

    Args:
        kept: the model as it would be kept otherwise.
        head: its last product, (1, H).
        scale: of the scores.
    """

    def __init__(self, kept: Kept, head: torch.nn.Linear, scale: Scale) -> None:
        self._kept, self._head, self._scale = kept, head, scale
        self.on_trial, self.check = kept.on_trial, kept.check
        self.state_dict, self.load_state_dict = kept.state_dict, kept.load_state_dict

    def save_pretrained(self, folder: Path) -> None:
        """Write weights that answer in scores; those in training stay as they are, to the bit."""
        with self._answering_in_scores():
            self._kept.save_pretrained(folder)

    def load_pretrained(self, folder: Path) -> None:
        """Compute with the weights of a folder, in standard deviations."""
        self._kept.load_pretrained(folder)
        standardise_head(self._head, self._scale)

    @contextmanager
    def _answering_in_scores(self) -> Iterator[None]:
        before = [parameter.data for parameter in self._head.parameters()]
        mean, deviation = self._scale
        self._head.weight.data = self._head.weight.data * deviation
        if self._head.bias is not None:
            self._head.bias.data = self._head.bias.data * deviation + mean
        try:
            yield
        finally:
            for parameter, data in zip(self._head.parameters(), before, strict=True):
                parameter.data = data


def standardise_head(head: torch.nn.Linear, scale: Scale) -> None:
    """Let a head that answers in scores answer in standard deviations."""
    with torch.no_grad():
        head.weight.div_(scale.deviation)
        if head.bias is not None:
            head.bias.sub_(scale.mean).div_(scale.deviation)
