"""AdamW as BERT was fine-tuned with, and the learning rate's course."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch

from .layers import depths

NARROW, RATE = 384, 1e-4  # up to this width of a model, this learning rate
FOR_ADAPTERS = 10  # times the rate of all weights


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


def usual_learning_rate(width: int, *, adapters: bool) -> float:
    """Give the peak learning rate to begin with where none is known to be better.

    The wider a model, the more a step of AdamW moves its products' sums: the rate falls as 1 / width (Yang et al. 2022, table 3). That meets what is published: 5e-5 at most for
    BERT-base (Devlin et al. 2019), 3e-4, 1e-4 and 5e-5 for ELECTRA of 256, 768 and 1024 (Clark et al. 2020), 5e-4 and 4e-4 for adapters on RoBERTa of 768 and 1024 (Hu et al. 2022).

    Args:
        width: of the model's hidden states.
        adapters: whether they are trained instead of all weights.
    """
    return RATE * min(1.0, NARROW / width) * (FOR_ADAPTERS if adapters else 1)


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
