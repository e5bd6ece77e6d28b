"""What a forward pass over packed tokens multiplies and looks up with: exactly, or in the int8 that an export writes (int8.py)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F


class Arithmetic(NamedTuple):
    """How weights are looked up and multiplied.

    Attributes:
        look_up: ((table, ids (T,)), …) → the sum of their rows (T, H).
        multiply: (x (T, K), linear, …, activation=the name of the function x came out of) → their products, side by side (T, N1 + N2 + …).
        mix: (context (T, H), value, output) → the output's product of what attention mixed from the values of a linear.
    """

    look_up: Callable[..., torch.Tensor]
    multiply: Callable[..., torch.Tensor]
    mix: Callable[..., torch.Tensor]


def joint_linear(x: torch.Tensor, *linears: torch.nn.Linear, activation: str | None = None) -> torch.Tensor:
    """Compute several products of the same rows as one: (T, K) → (T, N1 + N2 + …); those with adapters one after the other."""
    if len(linears) == 1:
        result: torch.Tensor = linears[0](x)
        return result
    if not all(type(linear) is torch.nn.Linear for linear in linears):
        return torch.cat([linear(x) for linear in linears], dim=1)
    weight = torch.cat([linear.weight for linear in linears])
    return F.linear(x, weight, torch.cat([linear.bias for linear in linears]))


def sum_rows(*looked_up: tuple[torch.nn.Module, torch.Tensor]) -> torch.Tensor:
    """Look vectors up in tables and add them: (T,) each → (T, H)."""
    rows: list[torch.Tensor] = [table(ids) for table, ids in looked_up]
    return sum(rows[1:], start=rows[0])


EXACT = Arithmetic(
    look_up=sum_rows, multiply=joint_linear, mix=lambda context, value, output: joint_linear(context, output)
)
