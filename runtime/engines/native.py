"""portabert's own engine for CPUs: packed texts in, no padding, int8 products in C++ (the distribution portabert-native)."""

import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle import Variant
from ..encode import Batch, join
from ..errors import BundleError, EngineUnavailable
from . import Settings, native_file
from .lanes import Rivals, describe_threads

INSTRUCTION_SET = "PORTABERT_INSTRUCTION_SET"  # the environment variable that forces one where no setting does
TOGETHER_TOKENS = 1024  # a call of more tokens has work for every thread: each computes texts of its own


def open_native(path: Path, *, variant: Variant, pad_token_id: int, settings: Settings) -> "NativeEngine":
    """Open a model.

    Raises:
        BundleError: the file is damaged, or describes no encoder.
        EngineUnavailable: the library does not load, an instruction set is forced that this processor lacks, or streams are neither 1 nor all
            threads.
    """
    import portabert_native

    if settings.streams not in (None, 1, settings.threads):
        raise EngineUnavailable(
            f"its streams must be 1 or as many as threads ({settings.threads}). Got {settings.streams} instead"
        )
    try:
        here = portabert_native.instruction_sets()
    except (portabert_native.NativeError, OSError) as exc:
        raise EngineUnavailable(f"portabert-native cannot be loaded: {exc}") from exc
    contents = native_file.read(path)
    forced = settings.instruction_set or os.environ.get(INSTRUCTION_SET, "")
    if forced and forced not in here:
        name = "instruction_set" if settings.instruction_set else INSTRUCTION_SET
        raise EngineUnavailable(f"{name} must be one of {', '.join(here)} on this processor. Got {forced!r} instead")
    try:
        shape = portabert_native.Shape.of(contents.shape)
        model = portabert_native.Model(shape, threads=settings.threads, instruction_set=forced)
        model.set(contents.tensors)
    except portabert_native.NativeError as exc:
        raise BundleError(f"{path} cannot be opened: {exc}. Export the model again.") from exc
    return NativeEngine(model, settings, f"portabert-native {portabert_native.__version__}")


def native_missing() -> str | None:
    """Say why the engine cannot run here; None when it can. It is looked for and not imported: most bundles may have no variant for it."""
    if find_spec("portabert_native") is None:
        return "portabert-native is not installed: pip install portabert-native"
    return None


class NativeEngine:
    """An encoder of portabert-native. `run` may be called from several threads at once; the calls wait for one another."""

    num_lanes = None  # it pads nothing, and spreads texts over its threads itself
    batch_invariant = True

    def __init__(self, model: Any, settings: Settings, name: str) -> None:
        """Take an open model, and how many texts it shall compute at once: `settings.streams` is 1 or all threads."""
        self._model, self._settings, self._rivals = model, settings, Rivals()
        streams = settings.streams or settings.threads
        self.description = f"{name}, {model.instruction_set}, CPU, {describe_threads(settings.threads, streams)}"

    def run(self, batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        """Compute batches. Returns for each (B, C), or (T, C) from a model that labels tokens."""
        texts = join(batches)
        logits = self._compute(texts)
        if len(batches) == 1:
            return [logits]
        sizes = [len(batch.input_ids if self._model.per_token else batch.lengths) for batch in batches]
        return np.split(logits, np.cumsum(sizes)[:-1])

    def _compute(self, texts: Batch) -> npt.NDArray[np.float32]:
        num_tokens, settings = len(texts.input_ids), self._settings
        if settings.threads == 1 or settings.streams is not None or num_tokens > TOGETHER_TOKENS:
            return self._run(texts, together=settings.streams == 1)
        together = self._rivals.prefer_shared(num_tokens)
        start = time.perf_counter()
        logits = self._run(texts, together=together)
        self._rivals.note(num_tokens, time.perf_counter() - start, shared=together)
        return logits

    def _run(self, texts: Batch, *, together: bool) -> npt.NDArray[np.float32]:
        import portabert_native

        try:
            logits: npt.NDArray[np.float32] = self._model.run(
                texts.input_ids, texts.token_type_ids, texts.cu_seqlens, together=together
            )
        except portabert_native.NativeError as exc:
            raise BundleError(f"the model cannot compute these texts: {exc}. Export the model again.") from exc
        return logits
