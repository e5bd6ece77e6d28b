"""The mean of the weights of a run's last evaluations, which may generalise better than any of them (Izmailov et al. 2018)."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from .metrics import is_better
from .states import WEIGHTS, step_of


class Chosen(NamedTuple):
    """The weights to ship: their folder, the steps whose mean they are, if they are one, and a line about it for people."""

    folder: Path
    averaged: tuple[int, ...] | None
    line: str


def choose(
    best: Path, mean: Path, averaged: Sequence[Path], *, metric: str, measure: Callable[[Path], float]
) -> Chosen:
    """Choose between the best evaluation's weights and a mean, which has to be better.

    Args:
        best: the best evaluation's folder.
        mean: `write_mean`'s.
        averaged: the folders whose mean it is.
        metric: that chooses.
        measure: measures the weights of a folder by it.
    """
    value, single = measure(mean), measure(best)
    better, steps = is_better(metric, value, single), tuple(map(step_of, averaged))
    line = (
        f"the mean of steps {', '.join(map(str, steps))} has {metric} {value:.4f}, step {step_of(best)} {single:.4f}: "
        f"{'the mean' if better else 'the single step'} is kept"
    )
    return Chosen(mean, steps, line) if better else Chosen(best, None, line)


def write_mean(mean: Path, averaged: Sequence[Path], best: Path) -> None:
    """Write the mean of weights as a Hugging Face folder.

    Args:
        mean: the folder.
        averaged: folders of weights of one model, in the order of their steps.
        best: the folder of which all else is copied.
    """
    from safetensors.torch import load_file, save_file

    fresh = mean.with_name(f".{mean.name}.tmp")
    for left in (fresh, mean):  # of a run that was killed here
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(best, fresh)
    total: dict[str, torch.Tensor] = {}
    last: dict[str, torch.Tensor] = {}
    for folder in averaged:
        last = load_file(folder / WEIGHTS)
        for name, tensor in last.items():
            if tensor.is_floating_point():
                total[name] = total[name] + tensor if name in total else tensor.double()
    # Whole numbers, such as a table of positions, have no mean; they are the same in all.
    means = {
        name: (total[name] / len(averaged)).to(tensor.dtype) if name in total else tensor
        for name, tensor in last.items()
    }
    save_file(means, fresh / WEIGHTS, metadata={"format": "pt"})
    os.replace(fresh, mean)
