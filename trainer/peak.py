"""How fast could training be here? What it computes, beside the fastest matrix product of this device in the same arithmetic.

bench/roofline.py measures the same for other libraries and more sizes; here half a second must do.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from runtime.errors import InputError

from .device import Place
from .flops import TRAINING, flops_of_texts, read_shape

SECONDS = 0.5  # for all sizes together
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# (rows, inner, columns) by kind of device: what fills a CPU's cores, and what a GPU with its thousands.
CPU, GPU = ((512, 384, 1536), (512, 768, 3072), (1024, 1024, 1024)), ((4096, 4096, 4096),)
SIZES = {"cpu": CPU, "cuda": GPU, "mps": GPU}
AT_ONCE = {
    "cpu": 1,
    "cuda": 10,
    "mps": 1,
}  # products between two looks at the clock; a fast GPU would wait for the second


class Ceiling(NamedTuple):
    """What training is measured against.

    Attributes:
        flops: tokens of each text of a step (B,) → the FLOPs of learning from them.
        peak_flops_per_s: of matrix products, on all processes' devices together.
    """

    flops: Callable[[npt.NDArray[np.int32]], float]
    peak_flops_per_s: float


def find_ceiling(model: Any, place: Place, *, passes: int = TRAINING) -> Ceiling | None:
    """Measure the device, and count for the model; None where a model's FLOPs are not known.

    Args:
        model: a transformers model.
        place: where it trains, and in which arithmetic.
        passes: that learning from a text costs: TRAINING or ADAPTING.
    """
    try:
        shape = read_shape(model.config.to_dict())
    except InputError:
        return None
    accelerator = place.accelerator
    peak = accelerator.num_processes * measure_peak(accelerator.device, place.precision)
    return Ceiling(lambda lengths: passes * float(flops_of_texts(shape, lengths).sum()), peak)


def measure_peak(device: torch.device, precision: str) -> float:
    """Give the FLOPs a second of the fastest product of SIZES."""
    sizes = SIZES[device.type]
    return max(_rate(size, device, DTYPES[precision], SECONDS / len(sizes)) for size in sizes)


def _rate(size: tuple[int, int, int], device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    rows, inner, columns = size
    left, right = (torch.ones(shape, device=device, dtype=dtype) for shape in ((rows, inner), (columns, inner)))
    best, at_once, end = 0.0, AT_ONCE[device.type], time.perf_counter() + seconds
    with torch.inference_mode():
        _multiply(left, right, 1)  # the first one sets the library up
        while not best or time.perf_counter() < end:
            start = time.perf_counter()
            _multiply(left, right, at_once)
            best = max(best, at_once / (time.perf_counter() - start))
    return 2.0 * rows * inner * columns * best


def _multiply(left: torch.Tensor, right: torch.Tensor, times: int) -> None:
    for _ in range(times):
        product = torch.nn.functional.linear(left, right)
    product[0, 0].item()  # waits for the device
