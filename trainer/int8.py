"""The int8 that an export writes (export/row_wise.py), inside the forward pass: quantisation-aware training.

    x (T, K) ─ a scale a row ─► steps ─┐
                                       ├─ products of integers, summed exactly ─ × both scales ─► (T, N)
    W (N, K) ─ a scale a row ─► steps ─┘

Forwards, rounding, scales and zero points are those of the exported graph. Backwards, rounding counts as the identity (the straight-through estimator; Bengio, Léonard and Courville 2013): gradients are those
of a product of the values that the steps stand for, and reach the weights as they are, in fp32. As in the graph, attention's own products, norms and the head stay as they are, the positions' and types' vectors
are rounded together, and the value's bias is left out of what attention mixes, for it comes out of it as it went in and can be added behind.
"""

import functools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from .arithmetic import Arithmetic, sum_rows
from .families import BOUNDED

TINY = 1e-20  # keeps the scale of rows that are all 0 from dividing by zero
LARGEST = 127  # the steps of a row's largest magnitude
EXACT_TERMS = 1024  # products of two int8 (at most 128 · 127) whose sum fp32 holds exactly, in any order: below 2²⁴
SHIFT = 128  # from the unsigned steps of a bounded activation to the signed ones that are multiplied


class Steps(NamedTuple):
    """Rows (T, K) as whole numbers of steps: int8 (T, K), to which `offset` is added, and the size of a row's step (T, 1)."""

    values: torch.Tensor
    offset: int
    scale: torch.Tensor

    def as_floats(self, dtype: torch.dtype) -> torch.Tensor:
        """Give the values they stand for."""
        return ((self.values.float() + self.offset) * self.scale).to(dtype)


def to_steps(rows: torch.Tensor, *, activation: str | None = None) -> Steps:
    """Round rows (T, K) to steps, each row by its own largest magnitude, or value where the activation is bounded below."""
    rows = rows.float()
    if activation in BOUNDED:
        lowest, zero_point = BOUNDED[activation]
        floor = lowest / zero_point if zero_point else TINY
        scale = (rows.amax(dim=1, keepdim=True) / (255 - zero_point)).clamp(min=floor)
        steps = torch.round(rows / scale).clamp(-zero_point, 255 - zero_point)
        return Steps((steps + (zero_point - SHIFT)).to(torch.int8), SHIFT - zero_point, scale)
    scale = rows.abs().amax(dim=1, keepdim=True) / LARGEST
    return Steps(torch.round(rows / scale.clamp(min=TINY)).to(torch.int8), 0, scale)


class _Product(torch.autograd.Function):
    """x (T, K) by a weight (N, K), both in steps: (T, N) in fp32."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, activation: str | None) -> torch.Tensor:
        rows, columns = to_steps(x, activation=activation), to_steps(weight)
        ctx.save_for_backward(rows.values, rows.scale, columns.values, columns.scale)
        ctx.offset, ctx.dtypes = rows.offset, (x.dtype, weight.dtype)
        ctx.backward_dtype = (
            torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else torch.float32
        )
        sums = _integer_product(rows.values, columns.values)
        if rows.offset:
            sums += rows.offset * columns.values.sum(dim=1, dtype=torch.int32)
        return sums.float() * rows.scale * columns.scale.T

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        values, scale, column_values, column_scale = ctx.saved_tensors
        dtype, gradient = ctx.backward_dtype, gradients[0].to(ctx.backward_dtype)
        by_x = gradient @ Steps(column_values, 0, column_scale).as_floats(dtype)
        by_weight = gradient.T @ Steps(values, ctx.offset, scale).as_floats(dtype)
        return by_x.to(ctx.dtypes[0]), by_weight.to(ctx.dtypes[1]), None


def _integer_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply int8 (T, K) by int8 (N, K): (T, N) int32; exact."""
    if x.device.type == "cpu" and _multiplies_integers() and x.shape[1] > 1:  # of one column torch 2.13's is no product
        return torch._int_mm(x, weight.T)
    sums = torch.zeros(len(x), len(weight), dtype=torch.int32, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        for first in range(0, x.shape[1], EXACT_TERMS):
            terms = slice(first, first + EXACT_TERMS)
            sums += (x[:, terms].float() @ weight[:, terms].float().T).int()
    return sums


@functools.cache
def _multiplies_integers() -> bool:
    """Whether torch's product of int8 is a fast one on this CPU; elsewhere it takes 25 times as long as one in fp32."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_vnni") or capabilities.get("amx_int8"))


def _round_rows(rows: torch.Tensor) -> torch.Tensor:
    """Give the values that rows in steps stand for, with the gradient of the rows themselves."""
    return rows + (to_steps(rows).as_floats(rows.dtype) - rows).detach()


def _look_up(words: Any, *positions: Any) -> torch.Tensor:
    rows = _round_rows(sum_rows(words))
    return rows + _round_rows(sum_rows(*positions)) if positions else rows


def _multiply(x: torch.Tensor, *linears: torch.nn.Linear, activation: str | None = None) -> torch.Tensor:
    weight = torch.cat([linear.weight for linear in linears])
    product: torch.Tensor = _Product.apply(x, weight, activation)  # type: ignore[no-untyped-call]
    biases: list[torch.Tensor] = [linear.bias for linear in linears if linear.bias is not None]
    return product + torch.cat(biases) if biases else product


def _mix(context: torch.Tensor, value: torch.nn.Linear, output: torch.nn.Linear) -> torch.Tensor:
    return _multiply(context - value.bias, output) + F.linear(value.bias[None], output.weight)


ROW_WISE = Arithmetic(look_up=_look_up, multiply=_multiply, mix=_mix)
