"""AdamW as BERT was fine-tuned with, and the learning rate's course."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch

from .layers import depths


def make_adamw(model: torch.nn.Module, *, weight_decay: float, layer_decay: float = 1.0) -> torch.optim.AdamW:
    """Build AdamW (Loshchilov & Hutter 2019) with bias correction, which short fine-tunings need to be stable (Mosbach et al. 2021).

    Matrices decay; vectors (biases, norms) do not. The fused kernel does one pass over memory instead of several.

    Args:
        model: whose parameters are trained.
        weight_decay: of matrices.
        layer_decay: from the head down, each layer's learning rate is this times that of the one above (Howard & Ruder 2018; ELECTRA's recipe).
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    depth = depths(model)
    top = max(depth.values())
    groups = defaultdict[tuple[float, float], list[torch.nn.Parameter]](list)
    for name, parameter in trained.items():
        decay = weight_decay if parameter.ndim >= 2 else 0.0
        groups[layer_decay ** (top - depth[name]), decay].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "lr_scale": lr_scale}
            for (lr_scale, decay), parameters in groups.items()
        ],
        lr=0.0,
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=all(parameter.device.type in ("cpu", "cuda") for parameter in trained.values()),
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of the coming step: the head's, and what follows from it for each layer."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]


def learning_rate_factor(step: int, *, schedule: str, warmup_steps: int, total_steps: int) -> float:
    """Give the share of the peak learning rate for a step, counted from 0: a straight rise, then the schedule."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return SCHEDULES[schedule](progress)


# Share of the peak, by progress in [0, 1) after the warm-up.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "constant": lambda progress: 1.0,
}
