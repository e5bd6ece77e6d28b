"""Engines: packed token ids in, logits out, nothing else.

An engine knows no task, no label and no text. To add one, write `runtime/engines/NAME.py` with an `open_NAME` function that returns an `Engine`, and a
row in `ENGINES`; nothing is imported until it is asked for.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..bundle import Manifest
from ..encode import Batch
from ..errors import EngineUnavailable, InputError


class Engine(Protocol):
    """Run one model file."""

    @property
    def description(self) -> str:
        """What runs where, for people: "onnxruntime 1.31.1, CPU, 2 threads"."""

    @property
    def num_lanes(self) -> int:
        """How many batches it computes at once."""

    def run(self, batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        """Compute logits. It gets all batches of a call, so that it may compute several at once.

        Args:
            batches: each of B packed texts of T tokens.

        Returns:
            For each batch (B, C) from models that label texts, (T, C) from models that label tokens.
        """


class EngineSpec(NamedTuple):
    """Where an engine lives: "module:function" inside this package, and the variants it runs best, best first."""

    opener: str
    missing: str  # () -> str | None: why the engine cannot run here, with what to install
    prefers: tuple[str, ...]


# In the order in which `auto` tries them.
ENGINES: dict[str, EngineSpec] = {
    "ort-cuda": EngineSpec("ort:open_cuda", "ort:cuda_missing", ("fp16", "fp32", "int8")),
    "ort-cpu": EngineSpec("ort:open_cpu", "ort:cpu_missing", ("int8", "fp32")),
}


class Opened(NamedTuple):
    """An engine and the variant it runs, by name, and why they were chosen."""

    engine: Engine
    name: str
    variant: str
    reason: str


def open_engine(name: str, *, path: Path, manifest: Manifest, variant: str, threads: int) -> Opened:
    """Open a bundle's model.

    Args:
        name: a key of ENGINES, or "auto": the first that runs here.
        path: the bundle.
        manifest: its manifest.
        variant: a variant of the bundle, or "auto": the one the engine runs best among those that passed the accuracy gate.
        threads: for engines on the CPU.

    Raises:
        InputError: no such engine or variant.
        EngineUnavailable: the engine cannot run here.
        BundleError: the model file is refused.
    """
    if name not in ("auto", *ENGINES):
        raise InputError(f"engine must be 'auto' or one of {', '.join(map(repr, ENGINES))}. Got {name!r} instead.")
    if variant not in ("auto", *manifest.variants):
        raise InputError(
            f"variant must be 'auto' or one of {', '.join(map(repr, manifest.variants))}. Got {variant!r} instead."
        )
    passed_over: list[str] = []
    for candidate in ENGINES if name == "auto" else [name]:
        chosen = _choose_variant(candidate, manifest) if variant == "auto" else variant
        reason = why_missing(candidate)
        if reason is None:
            try:
                engine = _open(candidate, path, manifest, chosen, threads)
            except EngineUnavailable as exc:
                reason = str(exc)
            else:
                why = "asked for" if name != "auto" else "; ".join(["first that runs here", *passed_over])
                return Opened(engine, candidate, chosen, why)
        passed_over.append(f"not {candidate}: {reason}")
    if name != "auto":
        raise EngineUnavailable(f"engine {name!r} cannot run here: {reason}")
    raise EngineUnavailable("no engine can run here: " + "; ".join(passed_over))


def why_missing(name: str) -> str | None:
    """Say why an engine cannot run on this machine and what to install; None when it can."""
    return cast(Callable[[], str | None], _function(ENGINES[name].missing))()


def _choose_variant(engine: str, manifest: Manifest) -> str:
    passed = [name for name, variant in manifest.variants.items() if variant.passed]
    if not passed:
        raise InputError(
            f"no variant of this bundle passed its accuracy gate; name one to use it all the same: {', '.join(manifest.variants)}."
        )
    return next((name for name in ENGINES[engine].prefers if name in passed), passed[0])


def _open(name: str, path: Path, manifest: Manifest, variant: str, threads: int) -> Engine:
    opener = cast(Callable[..., Engine], _function(ENGINES[name].opener))
    chosen = manifest.variants[variant]
    return opener(path / chosen.file, variant=chosen, pad_token_id=manifest.pad_token_id, threads=threads)


def _function(target: str) -> Callable[..., object]:
    module, function = target.split(":")
    return cast(Callable[..., object], getattr(import_module(f".{module}", __name__), function))
