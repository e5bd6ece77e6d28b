"""Which device and arithmetic a run uses; what was chosen is said, what was asked for and is missing is an error."""

from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from runtime.errors import InputError
from runtime.threads import usable_threads

_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Place(NamedTuple):
    """Where a run computes, and a line about it for people."""

    accelerator: Accelerator
    precision: str
    description: str


def choose_place(*, device: str, precision: str, cuda_graphs: bool = False) -> Place:
    """Set accelerate up.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        cuda_graphs: whether steps shall be CUDA graphs, which the changing scale of fp16 rules out.

    Raises:
        InputError: the device or precision is not there, or has no graphs.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"--device cuda, but torch {torch.__version__} sees no CUDA GPU. Check `nvidia-smi`, or use --device cpu."
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps, but torch sees no Apple GPU. Use --device cpu.")
    on_cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    on_mps = not on_cuda and device in ("auto", "mps") and torch.backends.mps.is_available()
    kind = "cuda" if on_cuda else "mps" if on_mps else "cpu"
    if precision == "auto":
        precision = "bf16" if _has_bf16(kind) else "fp32"
    elif precision == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError("--precision bf16, but this GPU has none. Use --precision fp16 or fp32.")
    elif precision == "fp16" and kind == "cpu":
        raise InputError("--precision fp16 needs a GPU. Use --precision bf16 or fp32.")
    if kind == "cpu":
        torch.set_num_threads(usable_threads().number)
    # accelerate keeps its first choice for the whole process; a second run may choose again.
    spans_processes = torch.distributed.is_available() and torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not spans_processes)
    accelerator = Accelerator(
        mixed_precision=_MIXED[precision],
        cpu=kind == "cpu",
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],  # the same in all, and some are large
    )
    if cuda_graphs and (kind != "cuda" or accelerator.num_processes > 1):
        got = _name(kind) if kind != "cuda" else f"{accelerator.num_processes} processes"
        raise InputError(f"--cuda-graphs needs a CUDA GPU and one process. Got {got} instead; leave it out.")
    if cuda_graphs and precision == "fp16":
        raise InputError("--cuda-graphs is for --precision bf16 and fp32. Got fp16 instead; leave it out.")
    processes = f", {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    return Place(accelerator, precision, f"{_name(kind)}, {precision}{processes}")


def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return kind == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _name(kind: str) -> str:
    if kind == "cuda":
        return f"GPU {torch.cuda.get_device_name()}"
    return "Apple GPU" if kind == "mps" else f"CPU, {torch.get_num_threads()} threads"
