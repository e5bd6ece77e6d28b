"""A batch of packed texts as tensors: `runtime.encode.Batch`, and where its texts lie."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from runtime.encode import Batch


class Packing(NamedTuple):
    """B packed texts.

    Attributes:
        input_ids: (T,).
        token_type_ids: (T,).
        positions: (T,) as the model's table of positions counts them.
        firsts: (B,) the row of each text's first token.
        cu_seqlens: (B+1,) where texts begin, and T; an array.
    """

    input_ids: torch.Tensor
    token_type_ids: torch.Tensor
    positions: torch.Tensor
    firsts: torch.Tensor
    cu_seqlens: npt.NDArray[np.int32]

    def to(self, device: torch.device) -> "Packing":
        """Move its tensors to a device."""
        return self._replace(
            input_ids=self.input_ids.to(device, non_blocking=True),
            token_type_ids=self.token_type_ids.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            firsts=self.firsts.to(device, non_blocking=True),
        )


def pack(batch: Batch, *, padding_idx: int | None) -> Packing:
    """Make tensors of a batch.

    Args:
        batch: sorted by length, so that texts of one length stand together.
        padding_idx: None where positions count 0, 1, 2 …; else RoBERTa's way, from padding_idx + 1, over tokens that are not padding_idx.
    """
    return Packing(
        torch.from_numpy(batch.input_ids),
        torch.from_numpy(batch.token_type_ids),
        torch.from_numpy(_positions(batch, padding_idx)),
        torch.from_numpy(batch.cu_seqlens[:-1].astype(np.int64)),
        batch.cu_seqlens,
    )


def _positions(batch: Batch, padding_idx: int | None) -> npt.NDArray[np.int64]:
    counted = (
        np.ones_like(batch.input_ids) if padding_idx is None else (batch.input_ids != padding_idx).astype(np.int64)
    )
    before = np.concatenate([[0], np.cumsum(counted)])  # (T+1,) counted tokens before each row
    count = before[1:] - np.repeat(before[batch.cu_seqlens[:-1]], batch.lengths)
    return np.asarray(count - 1 if padding_idx is None else count * counted + padding_idx)
