"""onnxruntime on the CPU or a CUDA GPU.

On the CPU there are two sessions, with the same answers to the bit: one with a stream's threads, and one with all threads, opened where it may pay (lanes.py).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle import Variant
from ..encode import Batch
from ..errors import BundleError, EngineUnavailable
from . import Settings
from .exactness import EXACT, saturates
from .lanes import Lanes, describe_threads
from .rectangles import Rectangles, check_inputs

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CUDA_KERNELS = "*onnxruntime_providers_cuda*"  # a library beside onnxruntime's own, in builds that have CUDA


def open_cpu(path: Path, *, variant: Variant, pad_token_id: int, settings: Settings) -> "OrtEngine":
    """Open a model on the CPU.

    Raises:
        BundleError: onnxruntime refuses the file.
    """
    streams = settings.streams or settings.threads
    exact = EXACT if variant.precision == "int8" and saturates() else {}
    return OrtEngine(
        partial(_session, path, CPU, variant, settings.spinning, exact),
        variant,
        pad_token_id,
        f"CPU, {describe_threads(settings.threads, streams)}{', 8-bit products the slower way: no VNNI' if exact else ''}",
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
    session = _session(path, CUDA, variant, None, {}, settings.threads)
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
    """Say why the CUDA engine cannot run; None when it may. Where the file of CUDA's kernels is missing nothing is imported, which takes 0.1 s and 16 MB."""
    found = find_spec("onnxruntime")
    if found is None:
        return "onnxruntime is not installed: pip install 'portabert[gpu]'"
    has_kernels = any(
        file for folder in found.submodule_search_locations or () for file in Path(folder, "capi").glob(CUDA_KERNELS)
    )
    if not has_kernels or CUDA not in _providers():
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

        def rectangles(session: Any) -> Rectangles:
            return Rectangles(lambda feeds: session.run([output], feeds)[0], variant, pad_token_id)

        narrow = open_session(threads // streams)
        check_inputs([node.name for node in narrow.get_inputs()], variant)
        output = narrow.get_outputs()[0].name
        self._lanes = Lanes(rectangles(narrow), lambda: rectangles(open_session(threads)), num_lanes=streams)
        self.num_lanes, self.batch_invariant = streams, batch_invariant
        self.description = f"onnxruntime {onnxruntime.__version__}, {where}"

    def run(self, batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        """Compute batches. Returns for each (B, C), or (T, C) from a model that labels tokens."""
        return self._lanes.run(batches)


def _session(
    path: Path, provider: str, variant: Variant, spinning: bool | None, exact: Mapping[str, str], threads: int
) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: its warnings speak of internals no user can act on
    entries = {**exact, **variant.session_options}
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
