"""A batch of packed texts as tensors: `runtime.encode.Batch`, and where its texts lie."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from runtime.encode import Batch

from .rectangle import Rectangle


class Packing(NamedTuple):
    """B packed texts.

    Attributes:
        input_ids: (T,).
        token_type_ids: (T,).
        positions: (T,) as the model's table of positions counts them.
        bounds: (B+1,) where texts begin, and the end of the last.
        cu_seqlens: the same as an array.
        rectangle: where its tokens lie while attention is computed; None where that goes by blocks.
    """

    input_ids: torch.Tensor
    token_type_ids: torch.Tensor
    positions: torch.Tensor
    bounds: torch.Tensor
    cu_seqlens: npt.NDArray[np.int32]
    rectangle: Rectangle | None = None

    @property
    def firsts(self) -> torch.Tensor:
        """The row of each text's first token, (B,)."""
        return self.bounds[:-1]


def pack(batch: Batch, *, padding_idx: int | None, num_tokens: int | None = None) -> Packing:
    """Make tensors of a batch.

    Args:
        batch: sorted by length, so that texts of one length stand together.
        padding_idx: None where positions count 0, 1, 2 …; else RoBERTa's way, from padding_idx + 1, over tokens that are not padding_idx.
        num_tokens: T, where more are wanted than the batch has; behind the last text its last token is repeated, and belongs to none.
    """
    missing = (num_tokens or len(batch.input_ids)) - len(batch.input_ids)

    def column(values: npt.NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(np.pad(values, (0, missing), mode="edge") if missing else values)

    return Packing(
        column(batch.input_ids),
        column(batch.token_type_ids),
        column(_positions(batch, padding_idx)),
        torch.from_numpy(batch.cu_seqlens.astype(np.int64)),
        batch.cu_seqlens,
    )


def _positions(batch: Batch, padding_idx: int | None) -> npt.NDArray[np.int64]:
    counted = (
        np.ones_like(batch.input_ids) if padding_idx is None else (batch.input_ids != padding_idx).astype(np.int64)
    )
    before = np.concatenate([[0], np.cumsum(counted)])  # (T+1,) counted tokens before each row
    count = before[1:] - np.repeat(before[batch.cu_seqlens[:-1]], batch.lengths)
    return np.asarray(count - 1 if padding_idx is None else count * counted + padding_idx)


def on_device(value: Any, device: torch.device, *, copy: bool = False) -> Any:
    """Give a named tuple with its tensors, and those of the named tuples in it, on a device; `copy`: never the same ones."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True, copy=copy)
    if isinstance(value, tuple):
        return type(value)(*(on_device(part, device, copy=copy) for part in value))
    return value


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    """Give the tensors of a named tuple, and of those in it."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from tensors_of(part)
