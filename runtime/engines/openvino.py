"""OpenVINO on CPUs. It wants rectangles, so this file pads, and takes the padding out of the answer again.

What it would do unless told otherwise, and is told here:

    precision    a fp32 model is computed in bf16 on every CPU with AVX512, also where bf16 is only emulated, forty times as slow
    pinning      threads are tied to CPUs, in every process from the first one on: two processes of one thread each would share one CPU
    threads      more than there are CPUs are cut down without a word
    memory       kernels for 5,000 shapes a stream are kept, which grows past a gigabyte where lengths and batches vary
    telemetry    importing it sends an event to Google Analytics and writes to ~/intel

Shapes stay dynamic: a new one costs a text 3–4 ms once, and padding lengths to multiples of 4 or 8 costs as much as it saves (docs/LOG.md).
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bundle import Variant
from ..encode import Batch
from ..errors import BundleError, EngineUnavailable, InputError
from ..machine import cpu_flags
from . import Settings
from .lanes import Lanes, describe_threads
from .rectangles import Rectangles, check_inputs

TELEMETRY = "openvino_telemetry"
KEPT_KERNELS = 1000  # a stream; one text of one length needs some 15. From 500 on, SST-2's texts are answered as fast as with 5,000
_importing = Lock()


class Arithmetic(NamedTuple):
    """How a precision is computed.

    Attributes:
        hint: OpenVINO's name of the precision.
        group: where weights are int8: so many activations in a row share a scale, and products are int8. 0: activations are never quantised.
        flags: instruction sets of which the CPU must have one; none where every CPU will do.
    """

    hint: str
    group: int
    flags: tuple[str, ...]


ARITHMETIC = {
    "bf16": Arithmetic("bf16", 0, ("avx512_bf16", "amx_bf16")),
    # Groups of 128: 1.3 times as fast as OpenVINO's 32, and no further from fp32 than row-wise int8 (docs/LOG.md). Without VNNI OpenVINO would
    # multiply floats, slower than fp32.
    "int8-weights": Arithmetic("f32", 128, ("avx512_vnni", "avx_vnni")),
    "fp32": Arithmetic("f32", 0, ()),
}


def open_openvino(path: Path, *, variant: Variant, pad_token_id: int, settings: Settings) -> "OpenVinoEngine":
    """Open a model.

    Raises:
        BundleError: OpenVINO refuses the file.
        EngineUnavailable: OpenVINO is installed and does not load.
        InputError: settings it cannot follow.
    """
    openvino = _import_openvino()
    core, threads = openvino.Core(), settings.threads
    with _refused(path):
        # Not `core.read_model`, which would try every format there is on a file that is no ONNX.
        frontend = openvino.frontend.FrontEndManager().load_by_framework("onnx")
        model = frontend.convert(frontend.load(str(path)))

    def compile_model(streams: int) -> Any:
        with _refused(path):
            return core.compile_model(model, "CPU", _properties(variant, threads=threads, streams=streams))

    compiled = compile_model(settings.streams or threads)
    _check_followed(compiled, threads=threads, streams=settings.streams or threads)
    where = f"OpenVINO {openvino.__version__.partition('-')[0]}, CPU, {describe_threads(threads, settings.streams or threads)}"
    return OpenVinoEngine(compiled, lambda: compile_model(1), variant, pad_token_id, where)


def openvino_missing() -> str | None:
    """Say why the engine cannot run; None when it may."""
    return None if find_spec("openvino") else "OpenVINO is not installed: pip install 'portabert[openvino]'"


def lacks(precision: str) -> str | None:
    """Say what this CPU lacks to compute in a precision; None when it has it."""
    needed = ARITHMETIC[precision].flags
    if not needed or cpu_flags().intersection(needed):
        return None
    return f"{precision} needs a CPU with {' or '.join(needed)}, and /proc/cpuinfo lists neither here"


class OpenVinoEngine:
    """An OpenVINO model. `run` may be called from several threads at once."""

    batch_invariant = False  # the order in which it sums depends on the shape

    def __init__(
        self, compiled: Any, compile_wide: Callable[[], Any], variant: Variant, pad_token_id: int, where: str
    ) -> None:
        """Take a compiled model, whose inputs must be those the manifest names.

        Args:
            compiled: the model, with as many streams as batches are to be computed at once.
            compile_wide: compiles it with a single stream of all threads.
            variant: the model's row in the manifest.
            pad_token_id: what input_ids are padded with.
            where: the device and its threads, for people.
        """
        check_inputs([node.any_name for node in compiled.inputs], variant)
        self.num_lanes, self.description = int(compiled.get_property("NUM_STREAMS")), where
        self._lanes = Lanes(
            Rectangles(_Requests(compiled, self.num_lanes).infer, variant, pad_token_id),
            lambda: Rectangles(_Requests(compile_wide(), 1).infer, variant, pad_token_id),
            num_lanes=self.num_lanes,
        )

    def run(self, batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        """Compute batches. Returns for each (B, C), or (T, C) from a model that labels tokens."""
        return self._lanes.run(batches)


class _Requests:
    """A compiled model's inference requests: as many as it computes at once; who comes later waits. That bounds its memory."""

    def __init__(self, compiled: Any, number: int) -> None:
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(number):
            self._free.put(compiled.create_infer_request())

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Compute the model's first output, (B, C) or (B, S, C)."""
        request = self._free.get()
        try:
            # Not `infer`, which would compute in the caller's thread, and make a stream of its own for every thread that ever calls.
            request.start_async(feeds, share_inputs=True)
            request.wait()
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)  # a copy: the next batch overwrites it
        finally:
            self._free.put(request)


def _properties(variant: Variant, *, threads: int, streams: int) -> dict[str, Any]:
    arithmetic = ARITHMETIC[variant.precision]
    return {
        "INFERENCE_PRECISION_HINT": arithmetic.hint,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": arithmetic.group,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,  # or a thread a core is all it takes, however many are asked for
        "CPU_RUNTIME_CACHE_CAPACITY": KEPT_KERNELS,
    }


def _check_followed(compiled: Any, *, threads: int, streams: int) -> None:
    """Hold OpenVINO to the settings, which it cuts down to what it finds fit.

    Raises:
        InputError: it did.
    """
    got = {name: int(compiled.get_property(name)) for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")}
    if got["INFERENCE_NUM_THREADS"] < threads // streams * streams or got["NUM_STREAMS"] < streams:
        raise InputError(
            f"OpenVINO takes {got['INFERENCE_NUM_THREADS']} threads in {got['NUM_STREAMS']} streams at most here. "
            f"Got threads={threads} and streams={streams} instead."
        )


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Translate what OpenVINO raises when it opens a file."""
    try:
        yield
    except Exception as exc:  # OpenVINO's own classes share no base
        raise BundleError(
            f"OpenVINO cannot open {path}: {exc}. If the file was changed or cut short, export the model again."
        ) from exc


def _import_openvino() -> Any:
    """Import OpenVINO with its telemetry out of reach, which it then takes to be not installed."""
    with _importing:
        others = sys.modules.get(TELEMETRY)
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # Python's way to make an import fail
        try:
            import openvino
        except ImportError as exc:
            raise EngineUnavailable(
                f"OpenVINO does not load: {exc}. Install it again: pip install 'portabert[openvino]'"
            ) from exc
        finally:
            del sys.modules[TELEMETRY]
            if others is not None:
                sys.modules[TELEMETRY] = others
    return openvino
