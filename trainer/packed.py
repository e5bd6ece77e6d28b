"""Training without padding: a transformers model's own weights, in a forward pass over packed tokens.

PACKED lists the architectures that have such a pass.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from runtime.encode import Batch

from . import attention, modernbert, post_norm, rectangle
from .arithmetic import EXACT
from .batch_shapes import BatchShape
from .families import FAMILIES
from .int8 import ROW_WISE
from .losses import IGNORED, Floats, Target
from .noise import Noise
from .packing import Packing, on_device, pack
from .padded import per_token


class Walk(NamedTuple):
    """How an architecture is walked, and a function that says why a model of it cannot be."""

    make: Callable[..., Any]
    unsupported: Callable[[Any], str | None]


PACKED: dict[str, Walk] = {
    **dict.fromkeys(FAMILIES, Walk(post_norm.PostNorm, post_norm.unsupported)),
    "modernbert": Walk(modernbert.ModernBert, modernbert.unsupported),
}


# Where attention goes by blocks of one length; elsewhere it goes in a rectangle, for a launch costs more than padding.
BY_BLOCKS = ("cpu",)


class Packed(torch.nn.Module):
    """A model that takes packed texts.

    Args:
        model: a transformers model of one of PACKED, with a head for texts or tokens.
        per_token: which of the two.
        inputs: the names of what it is fed; without token_type_ids among them all types are 0.

    Attributes:
        trains_in_int8: whether a pass in training computes as int8 exports will.
        answers_in_int8: whether one in evaluation does.
    """

    def __init__(self, model: Any, *, per_token: bool, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self._walk = PACKED[model.config.model_type].make(model, per_token=per_token)
        self._has_types = "token_type_ids" in inputs
        self.trains_in_int8 = self.answers_in_int8 = False

    def feed(self, texts: Batch, shape: BatchShape | None = None) -> Packing:
        """Make what `forward` takes of B texts, which are sorted by length; of a shape, where one is asked for."""
        if not self._has_types:
            texts = texts._replace(token_type_ids=np.zeros_like(texts.token_type_ids))
        num_tokens, longest = (shape.num_tokens, shape.longest) if shape else (None, None)
        packing = pack(texts, padding_idx=self._walk.padding_idx, num_tokens=num_tokens)
        if self._by_blocks:
            return packing
        return packing._replace(
            rectangle=rectangle.make_rectangle(texts.cu_seqlens, num_tokens=num_tokens, longest=longest)
        )

    def forward(self, packing: Packing, noise: Noise | None = None) -> torch.Tensor:
        """Compute logits (B, C), or (T, C) for a tagger; `noise` says what is dropped while training."""
        packing = on_device(packing, self._device)
        noise = noise if self.training else None
        in_int8 = self.trains_in_int8 if self.training else self.answers_in_int8
        logits: torch.Tensor = self._walk(
            packing,
            _attention(packing, noise),
            noise.drop if noise else lambda x, p: x,
            ROW_WISE if in_int8 else EXACT,
        )
        return logits

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def description(self) -> str:
        """Say for people what is computed."""
        return f"texts are packed: {'no padding is computed' if self._by_blocks else 'padding is computed in attention alone'}"

    @property
    def _by_blocks(self) -> bool:
        return self._device.type in BY_BLOCKS

    def stack(
        self, targets: Sequence[Target], lengths: npt.NDArray[np.int32], shape: BatchShape | None = None
    ) -> torch.Tensor:
        """Put the targets of B texts beside their logits: (B,), (B, C), or (T,) for a tagger."""
        if not per_token(targets):
            return torch.from_numpy(np.stack(targets))
        flat = np.concatenate(targets)
        missing = shape.num_tokens - len(flat) if shape else 0
        return torch.from_numpy(np.pad(flat, (0, missing), constant_values=IGNORED))

    def split(self, logits: Floats, lengths: npt.NDArray[np.int32]) -> list[Floats]:
        """Give each text its logits: (C,), or (t, C) for a tagger."""
        return list(logits) if len(logits) == len(lengths) else np.split(logits, np.cumsum(lengths)[:-1])


def _attention(packing: Packing, noise: Noise | None) -> Callable[..., torch.Tensor]:
    if packing.rectangle is None:
        return partial(attention.attend, blocks=attention.find_blocks(packing.cu_seqlens), noise=noise)
    return partial(rectangle.attend, rectangle=packing.rectangle, noise=noise)


def unsupported(model: Any) -> str | None:
    """Say why a model has no packed pass; None where it has."""
    kind = model.config.model_type
    if kind not in PACKED:
        return f"{kind} is not among {', '.join(PACKED)}"
    return PACKED[kind].unsupported(model)
