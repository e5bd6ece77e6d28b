"""How fast is the bundle on a GPU, beside PyTorch on the same batches?

    python -m bench.gpu --run RUN --bundle BUNDLE --texts FILE [--device cuda] [--batch-tokens 16384] [--repeats 7]

Needs BUNDLE's variant fp16 (`python -m export RUN --variants fp32 fp16`). From packed token ids to logits on the host, copies counted; tokenising is left out. Two cases: texts of 128 tokens, and
the file's own lengths in batches of like length. All ways compute in turn in one process, which is fair on a GPU: it runs one at a time anyway. `--device cpu` tries
the program where there is no GPU, in fp32. Prints a table, then one JSON document as its last line.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import tyro

from bench.comparison import check_repeats, finish, open_bundle, read_texts
from bench.flops import read_model
from bench.machine import describe_machine
from runtime.batching import pad, plan
from runtime.bundle import Manifest
from runtime.encode import Batch, Encoder
from runtime.engines import Settings, open_engine
from runtime.threads import usable_threads
from trainer.flops import flops_of_texts

Compute = Callable[[Sequence[Batch]], Sequence[npt.NDArray[np.floating]]]
FIXED_LENGTH = 128


class Device(NamedTuple):
    """What is measured on a device: portabert's engine and variant, PyTorch's type, and the side of the product that gives the peak."""

    engine: str
    variant: str
    dtype: str
    side: int


DEVICES = {"cuda": Device("ort-cuda", "fp16", "float16", 8192), "cpu": Device("ort-cpu", "fp32", "float32", 1024)}


@dataclass(frozen=True, kw_only=True)
class GpuConfig:
    """Compare engines on a GPU."""

    run: Path
    """The checkpoint: a Hugging Face folder."""
    bundle: Path
    """What `python -m export` made of it."""
    texts: Path
    """Plain text, a line a text."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where to compute."""
    batch_tokens: int = 16_384
    """Padded tokens of a batch."""
    repeats: int = 7
    """Rounds; a figure is the median over them."""
    compiled: bool = True
    """Measure torch.compile too, which needs minutes to start."""
    output: Path | None = None
    """Write the JSON here too."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(GpuConfig, prog="python -m bench.gpu", description=__doc__)
    check_repeats(config.repeats)
    device = DEVICES[config.device]
    manifest = open_bundle(config.bundle)
    ways, cases = _ways(config, device, manifest), _cases(config, manifest)
    shape, peak = read_model(config.run), _peak(config.device, device)
    document: dict[str, Any] = {
        "question": "gpu",
        "machine": {**describe_machine(), "gpu": _name(config.device)},
        "run": config.run.resolve().name,
        "texts": config.texts.name,
        "settings": {"batch_tokens": config.batch_tokens, "repeats": config.repeats, **device._asdict()},
        "peak_flops_per_s": peak,
        "cases": {},
    }
    for name, batches in cases.items():
        flops = sum(float(flops_of_texts(shape, batch.lengths).sum()) for batch in batches)
        num_texts = sum(len(batch.lengths) for batch in batches)
        seconds, errors = _measure(ways, batches, repeats=config.repeats)
        reference = seconds["torch sdpa"]
        document["cases"][name] = {
            way: {
                "texts_per_s": num_texts / median(times),
                "ratio": median(base / own for base, own in zip(reference, times, strict=True)),
                "share_of_peak": flops / median(times) / peak,
                "largest_difference": errors[way],
                "seconds": times,
            }
            for way, times in seconds.items()
        }
    _print(document)
    finish(document, config.output)


def _ways(config: GpuConfig, device: Device, manifest: Manifest) -> dict[str, Compute]:
    import torch
    from transformers import AutoModelForSequenceClassification

    if config.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: PyTorch sees no GPU here. Try the program with --device cpu.")
    if device.variant not in manifest.variants:
        raise SystemExit(
            f"error: {config.bundle} has no variant {device.variant}. Export it with --variants fp32 {device.variant}."
        )
    engine = open_engine(
        device.engine,
        path=config.bundle,
        manifest=manifest,
        variant=device.variant,
        settings=Settings(threads=usable_threads().number),
    ).engine
    model = AutoModelForSequenceClassification.from_pretrained(
        config.run, attn_implementation="sdpa", dtype=getattr(torch, device.dtype)
    )
    model = model.eval().to(config.device)
    inputs, fill = manifest.variants[device.variant].inputs, manifest.pad_token_id

    def torch_way(forward: Callable[..., Any]) -> Compute:
        def compute(batches: Sequence[Batch]) -> list[npt.NDArray[np.floating]]:
            found = []
            with torch.inference_mode():
                for batch in batches:
                    feeds = pad(batch, inputs=inputs, pad_token_id=fill).feeds
                    on_device = {name: torch.from_numpy(array).to(config.device) for name, array in feeds.items()}
                    found.append(forward(**on_device).logits)
            return [logits.float().cpu().numpy() for logits in found]  # the GPU is waited for once

        return compute

    ways: dict[str, Compute] = {"portabert": engine.run, "torch sdpa": torch_way(model)}
    if config.compiled:
        ways["torch sdpa, compiled"] = torch_way(torch.compile(model, dynamic=True))
    return ways


def _cases(config: GpuConfig, manifest: Manifest) -> dict[str, list[Batch]]:
    texts = read_texts(config.texts, max_texts=None)
    encoder = Encoder(config.bundle, max_length=manifest.max_length, pair=False, offsets=False)
    batch = encoder.encode(texts).batch
    own = [batch.take(indices) for indices in plan(batch.lengths, max_batch_tokens=config.batch_tokens)]
    length = min(FIXED_LENGTH, manifest.max_length)
    size = max(1, config.batch_tokens // length)
    ids = np.resize(batch.input_ids, (size, length)).astype(batch.input_ids.dtype)
    fixed = Batch(ids.ravel(), np.zeros_like(ids).ravel(), np.arange(size + 1, dtype=np.int32) * length)
    return {f"{size} texts of {length} tokens": [fixed] * 4, "the file's texts": own}


def _measure(
    ways: dict[str, Compute], batches: Sequence[Batch], *, repeats: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Time a pass of each way in turn; give their times, and how far their logits are from portabert's."""
    answers = {way: compute(batches) for way, compute in ways.items()}  # warm, and compiled
    errors = {
        way: max(float(np.abs(ours - theirs).max()) for ours, theirs in zip(answers["portabert"], found, strict=True))
        for way, found in answers.items()
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(repeats):
        for way in list(ways)[:: 1 if number % 2 == 0 else -1]:
            start = time.perf_counter()
            ways[way](batches)
            seconds[way].append(time.perf_counter() - start)
    return seconds, errors


def _peak(place: str, device: Device) -> float:
    """Measure a square product in the type that is computed in: FLOPs a second, the best of ten."""
    import torch

    side = device.side
    a = torch.ones(side, side, dtype=getattr(torch, device.dtype), device=place)
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the GPU
        best = max(best, 2.0 * side**3 / (time.perf_counter() - start))
    return best


def _name(place: str) -> str:
    import torch

    return torch.cuda.get_device_name() if place == "cuda" else "none"


def _print(document: dict[str, Any]) -> None:
    print(f"{'case':32}{'way':24}{'texts/s':>10}{'× torch':>9}{'of peak':>9}{'largest Δ':>11}")
    for case, ways in document["cases"].items():
        for way, found in ways.items():
            print(
                f"{case:32}{way:24}{found['texts_per_s']:>10,.0f}{found['ratio']:>9.2f}"
                f"{found['share_of_peak']:>9.1%}{found['largest_difference']:>11.1e}"
            )
    print(f"of peak: {document['peak_flops_per_s'] / 1e12:.2f} TFLOP/s, a square product; padding not counted")


if __name__ == "__main__":
    main()
