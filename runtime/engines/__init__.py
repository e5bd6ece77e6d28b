"""Engines: packed token ids in, logits out, nothing else.

An engine knows no task, no label and no text. To add one, write `runtime/engines/NAME.py` with an `open_NAME` function that returns an `Engine`, and a
row in `ENGINES`; nothing is imported until it is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..bundle import Manifest
from ..encode import Batch
from ..errors import EngineUnavailable, InputError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an engine uses the machine. `python -m runtime tune` measures which are best.

    Attributes:
        threads: how many compute.
        streams: how many batches are computed at once, each by threads / streams threads; None for the engine's own choice.
        spinning: whether threads that wait burn their core to be woken sooner; None for the engine's own choice.
        instruction_set: which of the processor's the engine computes with; None for its own choice.
    """

    threads: int
    streams: int | None = None
    spinning: bool | None = None
    instruction_set: str | None = None

    def validate(self) -> None:
        """Check what the types do not say.

        Raises:
            InputError: a number out of its range.
        """
        if self.threads < 1:
            raise InputError(f"threads must be a positive integer. Got {self.threads} instead.")
        if self.streams is not None and not 1 <= self.streams <= self.threads:
            raise InputError(f"streams must be between 1 and threads ({self.threads}). Got {self.streams} instead.")


class Engine(Protocol):
    """Run one model file."""

    @property
    def description(self) -> str:
        """What runs where, for people: "onnxruntime 1.31.1, CPU, 2 threads"."""

    @property
    def num_lanes(self) -> int | None:
        """How many batches it computes at once. None where it wants no batches, and gets all texts of a call in one as they come."""

    @property
    def batch_invariant(self) -> bool:
        """Whether a text's logits are the same to the bit alone and in any batch."""

    def run(self, batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        """Compute logits. It gets all batches of a call, so that it may compute several at once.

        Args:
            batches: each of B packed texts of T tokens.

        Returns:
            For each batch (B, C) from models that label texts, (T, C) from models that label tokens.
        """


class EngineSpec(NamedTuple):
    """Where an engine lives, "module:function" inside this package, and what it computes.

    Attributes:
        opener: (path, *, variant, pad_token_id, settings) -> Engine.
        missing: () -> str | None: why the engine cannot run here, with what to install.
        precisions: those it computes in, best first. A variant of another precision is refused, never converted.
        lacks: (precision) -> str | None: why this CPU does not compute in one of them; None where every CPU does.
        spins: whether `Settings.spinning` can be chosen.
        instruction_sets: whether `Settings.instruction_set` can be.
    """

    opener: str
    missing: str
    precisions: tuple[str, ...]
    lacks: str | None = None
    spins: bool = True
    instruction_sets: bool = False


# In the order in which `auto` tries them.
ENGINES: dict[str, EngineSpec] = {
    "ort-cuda": EngineSpec("ort:open_cuda", "ort:cuda_missing", ("fp16", "fp32", "int8"), spins=False),
    "native": EngineSpec(
        "native:open_native",
        "native:native_missing",
        ("native-int8", "native-bf16"),
        spins=False,
        instruction_sets=True,
    ),
    "ort-cpu": EngineSpec("ort:open_cpu", "ort:cpu_missing", ("int8", "fp32", "fp16")),
    "openvino": EngineSpec(
        "openvino:open_openvino",
        "openvino:openvino_missing",
        ("bf16", "int8-weights", "fp32"),
        "openvino:lacks",
        spins=False,
    ),
}


class Opened(NamedTuple):
    """An engine and the variant it runs, by name, and why they were chosen."""

    engine: Engine
    name: str
    variant: str
    reason: str


def open_engine(name: str, *, path: Path, manifest: Manifest, variant: str, settings: Settings) -> Opened:
    """Open a bundle's model.

    Args:
        name: a key of ENGINES, or "auto": the first that runs here.
        path: the bundle.
        manifest: its manifest.
        variant: a variant of the bundle, or "auto": the one the engine runs best among those that passed the accuracy gate.
        settings: how it uses the machine.

    Raises:
        InputError: no such engine or variant, or settings out of range.
        EngineUnavailable: the engine cannot run here, does not compute in the variant's precision, or lacks a setting.
        BundleError: the model file is refused.
    """
    if name not in ("auto", *ENGINES):
        raise InputError(f"engine must be 'auto' or one of {', '.join(map(repr, ENGINES))}. Got {name!r} instead.")
    if variant not in ("auto", *manifest.variants):
        raise InputError(
            f"variant must be 'auto' or one of {', '.join(map(repr, manifest.variants))}. Got {variant!r} instead."
        )
    settings.validate()
    passed_over: list[str] = []
    for candidate in ENGINES if name == "auto" else [name]:
        reason = why_missing(candidate)
        if reason is None:
            try:
                chosen = choose_variant(candidate, manifest) if variant == "auto" else variant
                engine = _open(candidate, path, manifest, chosen, settings)
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


def choose_variant(engine: str, manifest: Manifest) -> str:
    """Name the variant that `auto` takes: the one the engine runs best among those that passed the accuracy gate.

    Raises:
        InputError: none passed.
        EngineUnavailable: the engine computes in the precision of none that did.
    """
    passed = [name for name, variant in manifest.variants.items() if variant.passed]
    if not passed:
        raise InputError(
            f"no variant of this bundle passed its accuracy gate; name one to use it all the same: {', '.join(manifest.variants)}."
        )
    precisions = ENGINES[engine].precisions
    lacking = {precision: why for precision in precisions if (why := _why_lacking(engine, precision))}
    for precision in (precision for precision in precisions if precision not in lacking):
        for name in passed:
            if manifest.variants[name].precision == precision:
                return name
    mismatch = f"it computes in {' or '.join(precisions)}, and this bundle's verified variants are {', '.join(passed)}"
    raise EngineUnavailable("; ".join([mismatch, *lacking.values()]))


def _open(name: str, path: Path, manifest: Manifest, variant: str, settings: Settings) -> Engine:
    opener = cast(Callable[..., Engine], _function(ENGINES[name].opener))
    chosen, precisions = manifest.variants[variant], ENGINES[name].precisions
    if chosen.precision not in precisions:
        raise EngineUnavailable(
            f"it computes in {' or '.join(precisions)}, and variant {variant!r} is {chosen.precision}. Choose another variant or engine"
        )
    if settings.spinning is not None and not ENGINES[name].spins:
        raise EngineUnavailable(f"it has no setting for spinning; leave it out. Got spinning={settings.spinning}")
    if settings.instruction_set is not None and not ENGINES[name].instruction_sets:
        raise EngineUnavailable(
            f"it chooses its instruction set itself; leave it out. Got instruction_set={settings.instruction_set!r}"
        )
    if lacking := _why_lacking(name, chosen.precision):
        raise EngineUnavailable(f"{lacking}. Choose another variant or engine")
    return opener(path / chosen.file, variant=chosen, pad_token_id=manifest.pad_token_id, settings=settings)


def _why_lacking(engine: str, precision: str) -> str | None:
    lacks = ENGINES[engine].lacks
    return cast(Callable[[str], str | None], _function(lacks))(precision) if lacks else None


def _function(target: str) -> Callable[..., object]:
    module, function = target.split(":")
    return cast(Callable[..., object], getattr(import_module(f".{module}", __name__), function))
