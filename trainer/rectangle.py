"""Attention over packed texts for GPUs: the same as attention.py computes, in as many operations however many lengths there are.

At the lengths of sentences a GPU takes longer to be told of an operation than to compute it, and blocks of one length are ten or more to a batch.
So the batch is padded, for the time of attention alone:

    kv (T, 2 H) ──rows──► (B · S, 2 H) ─► keys, values (B, heads, S, d) ─► context ──places──► (T, H)

Both ways are look-ups of rows, and so are their gradients, for no row is used twice: sums that depend on an order, as adding into shared rows would make on a GPU, there are none.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from .noise import Noise


class Rectangle(NamedTuple):
    """B texts of at most S tokens.

    Attributes:
        rows: (B · S,) the token at each place; T where there is none.
        places: (T,) the place of each token; B · S where it has none.
        seen: (B, 1, 1, S) whether a place holds a token.
    """

    rows: torch.Tensor
    places: torch.Tensor
    seen: torch.Tensor


def make_rectangle(
    cu_seqlens: npt.NDArray[np.int32], *, num_tokens: int | None = None, longest: int | None = None
) -> Rectangle:
    """Find the places of packed texts.

    Args:
        cu_seqlens: (B+1,) where texts begin, and the end of the last.
        num_tokens: T, where there are more than the texts have; those behind the last text have no place.
        longest: S, where it is more than the longest text has.
    """
    lengths = np.diff(cu_seqlens)
    seen = np.arange(longest or lengths.max()) < lengths[:, None]  # (B, S)
    held = np.flatnonzero(seen)
    places = np.full(num_tokens or len(held), seen.size, dtype=np.int64)
    places[: len(held)] = held
    rows = np.full(seen.size, len(places), dtype=np.int64)
    rows[held] = np.arange(len(held))
    return Rectangle(*(torch.from_numpy(array) for array in (rows, places, seen[:, None, None])))


def attend(
    q: torch.Tensor,
    kv: torch.Tensor,
    *,
    rectangle: Rectangle,
    num_heads: int,
    p: float = 0.0,
    noise: Noise | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """Compute softmax(q kᵀ / √d) v for each text by itself; the arguments but for `rectangle`, and what is returned, are `attention.attend`'s."""
    num_texts, longest = len(rectangle.seen), rectangle.seen.shape[-1]
    firsts, head_size = len(q) != len(kv), q.shape[1] // num_heads
    padded = _look_up(kv, rectangle.rows, rectangle.places)
    keys, values = padded.view(num_texts, longest, 2, num_heads, head_size).permute(2, 0, 3, 1, 4)
    queries = q if firsts else _look_up(q, rectangle.rows, rectangle.places)
    queries = queries.view(num_texts, -1, num_heads, head_size).transpose(1, 2)  # (B, heads, nq, d)
    scores = torch.matmul(queries * head_size**-0.5, keys.transpose(2, 3)).float()
    seen = rectangle.seen if window is None else rectangle.seen & _near(scores.shape, window, scores.device)
    # Not by -inf: a query that is padding may see nothing, and 0 / 0 would reach the gradients of those that do.
    weights = torch.softmax(scores.masked_fill(~seen, torch.finfo(scores.dtype).min), dim=-1)
    if noise is not None and p:
        weights = weights * noise.factors(weights, p)
    context = torch.matmul(weights.to(q.dtype), values).transpose(1, 2).reshape(-1, q.shape[1])  # (B · nq, H)
    return context if firsts else _look_up(context, rectangle.places, rectangle.rows)


def _look_up(x: torch.Tensor, rows: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """Give the rows (N,) of `x` (M, H), 0 for row M; `back` (M,) says where each row of `x` went, N if nowhere."""
    found: torch.Tensor = _LookUp.apply(x, rows, back)  # type: ignore[no-untyped-call]
    return found


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, rows: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(back)
        return F.pad(x, (0, 0, 0, 1))[rows]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return F.pad(gradients[0], (0, 0, 0, 1))[ctx.saved_tensors[0]], None, None


def _near(shape: torch.Size, window: int, device: torch.device) -> torch.Tensor:
    """Tell which keys lie within a query's window: (nq, S), queries counted from 0."""
    queries, keys = (torch.arange(size, device=device) for size in shape[2:])
    return (queries[:, None] - keys).abs() <= window
