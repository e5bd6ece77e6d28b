"""Models that want rectangles: padded here, and the padding is taken out of the answer again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..batching import pad
from ..bundle import Variant
from ..encode import Batch
from ..errors import BundleError

# Arrays (B, S) by input name -> (B, C) or (B, S, C).
Infer = Callable[[Mapping[str, npt.NDArray[Any]]], npt.NDArray[Any]]


class Rectangles:
    """Compute a packed batch by a model that takes arrays (B, S). It may be called from several threads at once if the model may."""

    def __init__(self, infer: Infer, variant: Variant, pad_token_id: int) -> None:
        """Take what computes, the model's row in the manifest, and what input_ids are padded with."""
        self._infer, self._variant, self._pad = infer, variant, pad_token_id

    def __call__(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Compute (B, C), or (T, C) from a model that labels tokens.

        Raises:
            BundleError: the model breaks off.
        """
        padded = pad(batch, inputs=self._variant.inputs, pad_token_id=self._pad)
        try:
            logits = np.asarray(self._infer(padded.feeds), dtype=np.float32)
        except Exception as exc:  # what engines raise shares no base
            size = "×".join(map(str, padded.mask.shape))
            raise BundleError(
                f"{self._variant.file} cannot compute a batch of {size} tokens: {exc}. Export the model again."
            ) from exc
        return logits[padded.mask] if logits.ndim == 3 else logits  # (B, S, C) -> (T, C)


def check_inputs(names: Sequence[str], variant: Variant) -> None:
    """Hold a model's inputs to those the manifest names.

    Raises:
        BundleError: they are others.
    """
    if sorted(names) != sorted(variant.inputs):
        raise BundleError(
            f"{variant.file} has the inputs {list(names)}, bundle.json says {list(variant.inputs)}. Export the model again."
        )
