"""Training as transformers has it: a batch is a rectangle, padded on the right to its longest text."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from runtime.batching import pad
from runtime.encode import Batch

from .losses import IGNORED, Floats, Target
from .noise import Noise

Feeds: TypeAlias = dict[str, torch.Tensor]


class Padded(torch.nn.Module):
    """A model that takes padded texts.

    Args:
        model: a transformers model with a head for texts or tokens.
        inputs: the names of what it is fed.
        pad_token_id: what input_ids are filled with.
    """

    def __init__(self, model: Any, *, inputs: tuple[str, ...], pad_token_id: int) -> None:
        super().__init__()
        self.model, self._inputs, self._pad_token_id = model, inputs, pad_token_id

    def feed(self, texts: Batch) -> Feeds:
        """Make what `forward` takes of B texts: tensors (B, S)."""
        padded = pad(texts, inputs=self._inputs, pad_token_id=self._pad_token_id)
        return {name: torch.from_numpy(array) for name, array in padded.feeds.items()}

    def forward(self, feeds: Feeds, noise: Noise | None = None) -> torch.Tensor:
        """Compute logits (B, C), or (B, S, C) for a tagger; torch's own generator says what is dropped."""
        device = next(self.model.parameters()).device
        logits: torch.Tensor = self.model(**{name: tensor.to(device) for name, tensor in feeds.items()}).logits
        return logits

    def stack(self, targets: Sequence[Target], lengths: npt.NDArray[np.int32]) -> torch.Tensor:
        """Put the targets of B texts beside their logits: (B,), (B, C), or (B, S) for a tagger."""
        if not per_token(targets):
            return torch.from_numpy(np.stack(targets))
        mask = np.arange(lengths.max()) < lengths[:, None]  # (B, S)
        rectangle = np.full(mask.shape, IGNORED, dtype=np.int64)
        rectangle[mask] = np.concatenate(targets)
        return torch.from_numpy(rectangle)

    def split(self, logits: Floats, lengths: npt.NDArray[np.int32]) -> list[Floats]:
        """Give each text its logits: (C,), or (t, C) for a tagger."""
        if logits.ndim == 2:
            return list(logits)
        return [row[:length] for row, length in zip(logits, lengths, strict=True)]


def per_token(targets: Sequence[Target]) -> bool:
    """Whether each token has a target."""
    return targets[0].dtype == np.int64 and targets[0].ndim == 1
