"""onnxruntime on the CPU or a CUDA GPU. It wants rectangles, so this file pads, and takes the padding out of the answer again.

On the CPU several threads are used in one of two ways, both with the same answers to the bit:

    many batches    as many at once as there are streams, in one session that has a stream's threads. By default a stream has one: nobody waits for anybody
    one batch       a session in which all threads share every product, or the one of a single stream, whichever is faster: threads that share meet some
                    two hundred times a pass, which on some machines costs a short text more than they gain (docs/LOG.md). `_Rivals` measures it
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from ..batching import pad
from ..bundle import Variant
from ..encode import Batch
from ..errors import BundleError, EngineUnavailable
from . import Settings

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def open_cpu(path: Path, *, variant: Variant, pad_token_id: int, settings: Settings) -> "OrtEngine":
    """Open a model on the CPU.

    Raises:
        BundleError: onnxruntime refuses the file.
    """
    streams = settings.streams or settings.threads
    where = f"CPU, {_count(settings.threads, 'thread')}"
    if streams != settings.threads:
        where += f" in {_count(streams, 'stream')}"
    return OrtEngine(
        partial(_session, path, CPU, variant, settings.spinning),
        variant,
        pad_token_id,
        where,
        threads=settings.threads,
        streams=streams,
        batch_invariant=variant.batch_invariant,
    )


def open_cuda(path: Path, *, variant: Variant, pad_token_id: int, settings: Settings) -> "OrtEngine":
    """Open a model on a CUDA GPU.

    Raises:
        BundleError: onnxruntime refuses the file.
        EngineUnavailable: there is no GPU, or its libraries do not load; onnxruntime alone would fall back to the CPU without a word.
    """
    session = _session(path, CUDA, variant, None, settings.threads)
    if CUDA not in session.get_providers():
        raise EngineUnavailable(
            "onnxruntime could not start CUDA (no GPU, or its driver, CUDA or cuDNN libraries are missing); see onnxruntime's own lines above. "
            "Check `nvidia-smi`, or choose --engine ort-cpu"
        )
    return OrtEngine(
        lambda threads: session, variant, pad_token_id, "CUDA", threads=1, streams=1, batch_invariant=False
    )


def cpu_missing() -> str | None:
    """Say why the CPU engine cannot run; None when it can."""
    return None if _providers() else "onnxruntime is not installed: pip install 'portabert[cpu]'"


def cuda_missing() -> str | None:
    """Say why the CUDA engine cannot run; None when it may."""
    providers = _providers()
    if not providers:
        return "onnxruntime is not installed: pip install 'portabert[gpu]'"
    if CUDA not in providers:
        return "this onnxruntime has no CUDA: pip uninstall onnxruntime, then pip install 'portabert[gpu]' (the two packages must not be mixed)"
    return None


class OrtEngine:
    """An onnxruntime model. `run` may be called from several threads at once."""

    def __init__(
        self,
        open_session: Callable[[int], Any],
        variant: Variant,
        pad_token_id: int,
        where: str,
        *,
        threads: int,
        streams: int,
        batch_invariant: bool,
    ) -> None:
        """Open a session for one stream, whose inputs must be those the manifest names.

        Args:
            open_session: opens the model with a number of threads.
            variant: the model.
            pad_token_id: what input_ids are padded with.
            where: the device and its threads, for people.
            threads: how many may compute; the first session has one stream's share, and another with all is opened when it pays.
            streams: how many batches are computed at once.
            batch_invariant: see `Engine`.
        """
        import onnxruntime

        self._open, self._threads, self.num_lanes = open_session, threads, streams
        self._narrow, self.batch_invariant = open_session(threads // streams), batch_invariant
        names = [node.name for node in self._narrow.get_inputs()]
        if sorted(names) != sorted(variant.inputs):
            raise BundleError(
                f"{variant.file} has the inputs {names}, bundle.json says {list(variant.inputs)}. Export the model again."
            )
        self._inputs, self._pad, self._file = names, pad_token_id, variant.file
        self._output = self._narrow.get_outputs()[0].name
        self._lock, self._rivals = Lock(), _Rivals()
        self._wide: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self.description = f"onnxruntime {onnxruntime.__version__}, {where}"

    def run(self, batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        """Pad, compute, unpad. Returns for each batch (B, C), or (T, C) from a model that labels tokens."""
        if self.num_lanes == 1:
            return [self._compute(self._narrow, batch) for batch in batches]
        if len(batches) == 1:
            return [self._compute_alone(batches[0])]
        return list(self._workers().map(partial(self._compute, self._narrow), batches))

    def _compute_alone(self, batch: Batch) -> npt.NDArray[np.float32]:
        num_tokens = len(batch.lengths) * int(batch.lengths.max())
        shared = self._rivals.prefer_shared(num_tokens)
        session = self._shared() if shared else self._narrow
        start = time.perf_counter()
        logits = self._compute(session, batch)
        self._rivals.note(num_tokens, time.perf_counter() - start, shared=shared)
        return logits

    def _compute(self, session: Any, batch: Batch) -> npt.NDArray[np.float32]:
        padded = pad(batch, inputs=self._inputs, pad_token_id=self._pad)
        try:
            (logits,) = session.run([self._output], padded.feeds)
        except Exception as exc:  # onnxruntime's own classes share no base
            size = "×".join(map(str, padded.mask.shape))
            raise BundleError(
                f"{self._file} cannot compute a batch of {size} tokens: {exc}. Export the model again."
            ) from exc
        logits = np.asarray(logits, dtype=np.float32)
        return logits[padded.mask] if logits.ndim == 3 else logits  # (B, S, C) -> (T, C)

    def _shared(self) -> Any:
        with self._lock:
            self._wide = self._wide or self._open(self._threads)
        return self._wide

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            self._pool = self._pool or ThreadPoolExecutor(self.num_lanes, thread_name_prefix="portabert")
        return self._pool


class _Rivals:
    """Which session answers a batch alone the fastest: for each size (a power of two of tokens) both are tried, and again after a while.

    One after the other, not in turn: threads that wait for their next batch fall asleep while the other session computes.
    """

    TRIALS, KEPT_FOR = 5, 300  # batches

    def __init__(self) -> None:
        self._lock = Lock()
        self._seconds: dict[tuple[int, bool], list[float]] = defaultdict(list)  # a token, by size and whether shared
        self._decided: dict[int, tuple[bool, int]] = {}  # by size: the better one, and for how many batches more

    def prefer_shared(self, num_tokens: int) -> bool:
        size = num_tokens.bit_length()
        with self._lock:
            shared, left = self._decided.get(size, (False, 0))
            if left:
                self._decided[size] = (shared, left - 1)
                return shared
            self._decided.pop(size, None)
            return len(self._seconds[size, False]) >= self.TRIALS

    def note(self, num_tokens: int, seconds: float, *, shared: bool) -> None:
        size = num_tokens.bit_length()
        with self._lock:
            if size in self._decided:
                return
            self._seconds[size, shared].append(seconds / num_tokens)
            alone, together = (self._seconds[size, way] for way in (False, True))
            if min(len(alone), len(together)) >= self.TRIALS:
                self._decided[size] = (median(together) < median(alone), self.KEPT_FOR)
                del self._seconds[size, False], self._seconds[size, True]


def _session(path: Path, provider: str, variant: Variant, spinning: bool | None, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: its warnings speak of internals no user can act on
    entries = dict(variant.session_options)
    if spinning is not None:
        entries["session.intra_op.allow_spinning"] = str(int(spinning))
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[provider], disabled_optimizers=list(variant.disabled_optimizers) or None
        )
    except (
        Exception
    ) as exc:  # onnxruntime's own classes share no base; a file it refuses and a device it lacks look alike
        if provider == CUDA and "CUDA" in str(exc):
            raise EngineUnavailable(f"onnxruntime could not start CUDA: {exc}") from exc
        raise BundleError(
            f"onnxruntime cannot open {path}: {exc}. If the file was changed or cut short, export the model again."
        ) from exc


def _providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError:
        return []
    return list(onnxruntime.get_available_providers())


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
