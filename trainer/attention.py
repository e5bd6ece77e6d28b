"""Attention over packed texts: each looks at its own tokens, and none is padded.

q  (Tq, H)   the queries, text after text: all T tokens, or each text's first
kv (T, 2 H)  keys and values
             ┌───┐
texts of a   │ n │ n tokens each   ─►  b texts of one length n are one Block: q and kv are cut, not gathered,
batch come   ├───┤                     and each block is two batched products (b · heads, n, n)
by length    │ n │
             ├──┬┘
             │ m│
"""

from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .noise import Noise


class Block(NamedTuple):
    """Texts of one length that follow each other: `num_texts` of `length` tokens, the first of them the batch's `first`, at token `start`."""

    first: int
    num_texts: int
    start: int
    length: int


def find_blocks(cu_seqlens: npt.NDArray[np.int32]) -> tuple[Block, ...]:
    """Find the texts of one length in a packed batch; few blocks where it is sorted by length."""
    blocks, first = [], 0
    for length, texts in groupby(np.diff(cu_seqlens).tolist()):
        num_texts = sum(1 for _ in texts)
        blocks.append(Block(first, num_texts, int(cu_seqlens[first]), length))
        first += num_texts
    return tuple(blocks)


def attend(
    q: torch.Tensor,
    kv: torch.Tensor,
    *,
    blocks: tuple[Block, ...],
    num_heads: int,
    p: float = 0.0,
    noise: Noise | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """Compute softmax(q kᵀ / √d) v for each text by itself (Vaswani et al. 2017, section 3.2).

    Args:
        q: (T, H) a query a token, or (B, H) of each text's first token.
        kv: (T, 2 H) keys, then values.
        blocks: of the batch's B texts.
        num_heads: heads, of H / num_heads numbers each.
        p: share of the weights that is dropped; needs `noise`.
        noise: what is dropped.
        window: a token looks at most so far to each side; None for everywhere.

    Returns:
        As q.
    """
    context: torch.Tensor = _Attention.apply(q, kv, blocks, num_heads, p, noise, window)  # type: ignore[no-untyped-call]
    return context


class _Attention(torch.autograd.Function):
    """One node for all blocks, since torch's own path copies and draws more than it multiplies at these lengths (docs/LOG.md)."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        kv: torch.Tensor,
        blocks: tuple[Block, ...],
        num_heads: int,
        p: float,
        noise: Noise | None,
        window: int | None,
    ) -> torch.Tensor:
        context = torch.empty_like(q)
        saved = []
        for block in blocks:
            rows = _rows(block, len(q) != len(kv))
            queries, keys, values = _heads(q[rows], kv, block, num_heads)
            scores = torch.bmm(queries, keys.transpose(1, 2)).float()  # (b · heads, nq, n)
            if window is not None and block.length > window + 1:
                scores.masked_fill_(_far(scores.shape, window, scores.device), -torch.inf)
            weights = torch.softmax(scores, dim=-1)
            factors = noise.factors(weights, p) if noise is not None and p else None
            dropped = (weights if factors is None else weights * factors).to(q.dtype)
            context[rows].view(block.num_texts, -1, num_heads, queries.shape[-1]).copy_(
                _texts(torch.bmm(dropped, values), block)
            )
            saved += [queries, keys, values, weights, dropped, factors]
        ctx.save_for_backward(*saved)
        ctx.blocks, ctx.num_heads, ctx.shapes = blocks, num_heads, (q.shape, kv.shape)
        return context

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        q_shape, kv_shape = ctx.shapes
        dq, dkv = gradient.new_empty(q_shape), gradient.new_empty(kv_shape)
        for index, block in enumerate(ctx.blocks):
            queries, keys, values, weights, dropped, factors = ctx.saved_tensors[6 * index : 6 * index + 6]
            head_size, rows = queries.shape[-1], _rows(block, q_shape[0] != kv_shape[0])
            dcontext = _by_head(gradient[rows], block, ctx.num_heads)
            dweights = torch.bmm(dcontext, values.transpose(1, 2)).float()
            if factors is not None:
                dweights *= factors
            # of softmax: w · (dw - Σ w · dw)
            dscores = torch._softmax_backward_data(dweights, weights, -1, torch.float32).to(queries.dtype)
            whole = dkv[block.start : block.start + block.num_texts * block.length]
            parts = whole.view(block.num_texts, block.length, 2, ctx.num_heads, head_size)
            parts[:, :, 0].copy_(_texts(torch.bmm(dscores.transpose(1, 2), queries), block))
            parts[:, :, 1].copy_(_texts(torch.bmm(dropped.transpose(1, 2), dcontext), block))
            dqueries = torch.bmm(dscores, keys).mul_(head_size**-0.5)
            dq[rows].view(block.num_texts, -1, ctx.num_heads, head_size).copy_(_texts(dqueries, block))
        return dq, dkv, None, None, None, None, None


def _rows(block: Block, firsts: bool) -> slice:
    """Where a block's queries stand: a row a text, or a row a token."""
    if firsts:
        return slice(block.first, block.first + block.num_texts)
    return slice(block.start, block.start + block.num_texts * block.length)


def _heads(
    q: torch.Tensor, kv: torch.Tensor, block: Block, num_heads: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut a block into heads: queries (b · heads, nq, d), divided by √d; keys and values (b · heads, n, d)."""
    head_size = q.shape[1] // num_heads
    tokens = kv[block.start : block.start + block.num_texts * block.length]
    parts = tokens.view(block.num_texts, block.length, 2, num_heads, head_size).permute(2, 0, 3, 1, 4)
    keys, values = parts.contiguous().view(2, -1, block.length, head_size)
    return _by_head(q, block, num_heads).mul_(head_size**-0.5), keys, values


def _by_head(x: torch.Tensor, block: Block, num_heads: int) -> torch.Tensor:
    """Copy rows (b · n, H) into (b · heads, n, d)."""
    split = x.view(block.num_texts, -1, num_heads, x.shape[1] // num_heads).transpose(1, 2)
    return split.clone(memory_format=torch.contiguous_format).flatten(0, 1)


def _texts(x: torch.Tensor, block: Block) -> torch.Tensor:
    """View (b · heads, n, d) as (b, n, heads, d)."""
    return x.view(block.num_texts, -1, *x.shape[1:]).transpose(1, 2)


def _far(shape: torch.Size, window: int, device: torch.device) -> torch.Tensor:
    """Tell which keys lie outside a query's window: (nq, n), queries counted from 0."""
    queries, keys = (torch.arange(size, device=device) for size in shape[1:])
    return (queries[:, None] - keys).abs() > window
