"""AdamW as BERT was fine-tuned with, and the learning rate's course."""

import math
from collections.abc import Callable

import torch


def make_adamw(model: torch.nn.Module, *, weight_decay: float) -> torch.optim.AdamW:
    """Build AdamW (Loshchilov & Hutter 2019) with bias correction, which short fine-tunings need to be stable (Mosbach et al. 2021).

    Matrices decay; vectors (biases, norms) do not. The fused kernel does one pass over memory instead of several.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


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
