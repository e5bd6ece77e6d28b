"""The trained model in PyTorch: what every variant has to answer like."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from runtime.batching import pad, plan
from runtime.encode import Encoded
from trainer.checkpoint import Checkpoint

Floats = npt.NDArray[np.float32]


class Reference(NamedTuple):
    """A PyTorch model and how it is fed.

    Attributes:
        model: in evaluation mode.
        inputs: names of its inputs.
        pad_token_id: stands where the mask is 0.
    """

    model: Any
    inputs: tuple[str, ...]
    pad_token_id: int

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> "Reference":
        """Load a checkpoint's model."""
        model = checkpoint.load_model()
        return cls(model, checkpoint.graph_inputs(model), int(model.config.pad_token_id))

    def run(self, feeds: Mapping[str, npt.NDArray[np.int64]]) -> Floats:
        """Compute the logits (B, C), or (B, S, C), of arrays (B, S)."""
        with torch.no_grad():
            logits: Floats = self.model(
                **{name: torch.from_numpy(array) for name, array in feeds.items()}
            ).logits.numpy()
        return logits

    def logits_together(self, encoded: Encoded, indices: npt.NDArray[np.intp]) -> list[Floats]:
        """Compute the logits of some texts as one right-padded batch: per text (C,), or (t, C)."""
        batch = encoded.batch.take(indices)
        logits = self.run(pad(batch, inputs=self.inputs, pad_token_id=self.pad_token_id).feeds)
        return [row[:length] if row.ndim == 2 else row for row, length in zip(logits, batch.lengths, strict=True)]

    def logits(self, encoded: Encoded) -> list[Floats]:
        """Compute the logits of all texts, in batches of like length: per text (C,), or (t, C)."""
        results: list[Floats] = [np.empty(0, dtype=np.float32)] * len(encoded.batch.lengths)
        for indices in plan(encoded.batch.lengths):
            for index, row in zip(indices, self.logits_together(encoded, indices), strict=True):
                results[index] = row
        return results
