"""onnxruntime on the CPU or a CUDA GPU. It wants rectangles, so this file pads, and takes the padding out of the answer again."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..batching import pad
from ..bundle import Variant
from ..encode import Batch
from ..errors import BundleError, EngineUnavailable

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def open_cpu(path: Path, *, variant: Variant, pad_token_id: int, threads: int) -> "OrtEngine":
    """Open a model on the CPU.

    Raises:
        BundleError: onnxruntime refuses the file.
    """
    return OrtEngine(_session(path, CPU, variant, threads), variant, pad_token_id, f"CPU, {_threads(threads)}")


def open_cuda(path: Path, *, variant: Variant, pad_token_id: int, threads: int) -> "OrtEngine":
    """Open a model on a CUDA GPU.

    Raises:
        BundleError: onnxruntime refuses the file.
        EngineUnavailable: there is no GPU, or its libraries do not load; onnxruntime alone would fall back to the CPU without a word.
    """
    session = _session(path, CUDA, variant, threads)
    if CUDA not in session.get_providers():
        raise EngineUnavailable(
            "onnxruntime could not start CUDA (no GPU, or its driver, CUDA or cuDNN libraries are missing); see onnxruntime's own lines above. "
            "Check `nvidia-smi`, or choose --engine ort-cpu"
        )
    return OrtEngine(session, variant, pad_token_id, "CUDA")


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
    """An onnxruntime session. `run` may be called from several threads at once."""

    def __init__(self, session: Any, variant: Variant, pad_token_id: int, where: str) -> None:
        """Wrap a session whose inputs must be those the manifest names."""
        import onnxruntime

        names = [node.name for node in session.get_inputs()]
        if sorted(names) != sorted(variant.inputs):
            raise BundleError(
                f"{variant.file} has the inputs {names}, bundle.json says {list(variant.inputs)}. Export the model again."
            )
        self._session, self._inputs, self._pad, self._file = session, names, pad_token_id, variant.file
        self._output = session.get_outputs()[0].name
        self.description = f"onnxruntime {onnxruntime.__version__}, {where}"

    def run(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Pad, compute, unpad. Returns (B, C), or (T, C) from a model that labels tokens."""
        padded = pad(batch, inputs=self._inputs, pad_token_id=self._pad)
        try:
            (logits,) = self._session.run([self._output], padded.feeds)
        except Exception as exc:  # onnxruntime's own classes share no base
            size = "×".join(map(str, padded.mask.shape))
            raise BundleError(
                f"{self._file} cannot compute a batch of {size} tokens: {exc}. Export the model again."
            ) from exc
        logits = np.asarray(logits, dtype=np.float32)
        return logits[padded.mask] if logits.ndim == 3 else logits  # (B, S, C) -> (T, C)


def _session(path: Path, provider: str, variant: Variant, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: its warnings speak of internals no user can act on
    for key, value in variant.session_options.items():
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


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
