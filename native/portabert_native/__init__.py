"""portabert's CPU engine: an encoder in C++, bound by ctypes, in int8 or bf16.

    model = Model(Shape(vocabulary=…, …), threads=2)
    model.set({"layer_0_up_int8": array, …})     arrays stay where they are; nothing is copied
    logits = model.run(input_ids, token_type_ids, cu_seqlens, together=False)

ctypes, not an extension module: one library serves every Python version, and it is what other languages call, too. `runtime/engines/native.py` of portabert opens
bundles with it; docs/native.md names the tensors.
"""

import ctypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_STEPS", "Model", "NativeError", "Shape", "__version__", "instruction_sets"]
__version__ = "0.1.0"

ABI = 1
MAX_STEPS = 4  # products of a head
LIBRARIES = ("libportabert.so", "libportabert.dylib")


class NativeError(Exception):
    """The library refused something; the message says what."""


class Shape(ctypes.Structure):
    """What an encoder is: `portabert_shape` of cpp/portabert.h, where each field is explained."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("vocabulary", "positions", "types", "max_length", "padding_idx")),
        *((name, ctypes.c_int32) for name in ("embedding", "hidden", "heads", "head_size", "intermediate", "layers")),
        *((name, ctypes.c_int32) for name in ("precision", "activation", "zero_point")),
        ("floor", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("relative", "per_token", "steps")),
        ("step_width", ctypes.c_int32 * MAX_STEPS),
        ("step_activation", ctypes.c_int32 * MAX_STEPS),
    ]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Shape":
        """Make a shape of plain numbers, and lists of MAX_STEPS numbers, as JSON gives them.

        Raises:
            NativeError: a field is missing, is none of a shape's, or is not what it must be.
        """
        names = [name for name, *_ in cls._fields_]
        if sorted(fields) != sorted(names):
            raise NativeError(f"its shape has the fields {sorted(fields)}, and {sorted(names)} are wanted")
        try:
            return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
        except (TypeError, ValueError, RuntimeError) as exc:  # ctypes has one for each way to be wrong
            raise NativeError(f"its shape {dict(fields)} has a field of another type or length: {exc}") from exc


def instruction_sets() -> list[str]:
    """Name the instruction sets this processor has, fastest first."""
    names: bytes = _library().portabert_instruction_sets()
    return names.decode().split()


class Model:
    """An encoder. `run` may be called from several threads; calls wait for one another."""

    def __init__(self, shape: Shape, *, threads: int, instruction_set: str = "") -> None:
        """Open an encoder that has no weights yet.

        Args:
            shape: what it is.
            threads: how many compute.
            instruction_set: one of `instruction_sets()`; "" for the first.

        Raises:
            NativeError: there is no such encoder, or no such instruction set.
        """
        self._library = _library()
        self._tensors: Mapping[str, npt.NDArray[Any]] = {}
        self._handle = self._library.portabert_open(ctypes.byref(shape), instruction_set.encode(), threads)
        if not self._handle:
            raise NativeError(self._error())
        self.per_token = bool(shape.per_token)
        self._labels: int = shape.step_width[shape.steps - 1]
        self.instruction_set: str = self._library.portabert_instruction_set(self._handle).decode()

    def set(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take all tensors by name. They must not change afterwards.

        Raises:
            NativeError: one is none of the encoder's, or has another size; or some are missing.
        """
        for name, tensor in tensors.items():
            if not tensor.flags.c_contiguous:
                raise NativeError(f"{name!r} must be contiguous")
            self._check(self._library.portabert_set(self._handle, name.encode(), tensor.ctypes.data, tensor.nbytes))
        self._check(self._library.portabert_ready(self._handle))
        self._tensors = tensors

    def run(
        self,
        input_ids: npt.NDArray[np.int64],
        token_type_ids: npt.NDArray[np.int64],
        cu_seqlens: npt.NDArray[np.int32],
        *,
        together: bool,
    ) -> npt.NDArray[np.float32]:
        """Compute the logits of B packed texts of T tokens.

        Args:
            input_ids: (T,).
            token_type_ids: (T,).
            cu_seqlens: (B+1,); text i is input_ids[cu_seqlens[i]:cu_seqlens[i+1]].
            together: whether all threads compute each text, or each thread texts of its own. The answers are the same to the bit.

        Returns:
            (B, labels), or (T, labels) from a head that reads every token.

        Raises:
            NativeError: an id or a length is out of range.
        """
        ids, types = (np.ascontiguousarray(array, dtype=np.int64) for array in (input_ids, token_type_ids))
        starts = np.ascontiguousarray(cu_seqlens, dtype=np.int32)
        if len(starts) < 1 or int(starts[-1]) != len(ids) or len(ids) != len(types):
            raise NativeError(
                f"cu_seqlens must end with the number of tokens. Got {starts[-1:]}, {len(ids)} ids and {len(types)} types instead"
            )
        logits = np.empty((len(ids) if self.per_token else len(starts) - 1, self._labels), dtype=np.float32)
        self._check(
            self._library.portabert_run(
                self._handle,
                ids.ctypes.data,
                types.ctypes.data,
                starts.ctypes.data,
                len(starts) - 1,
                together,
                logits.ctypes.data,
                logits.size,
            )
        )
        return logits

    def __del__(self) -> None:
        """Stop its threads and free its memory."""
        if getattr(self, "_handle", None):
            self._library.portabert_close(self._handle)

    def _check(self, status: int) -> None:
        if status:
            raise NativeError(self._error())

    def _error(self) -> str:
        message: bytes = self._library.portabert_error()
        return message.decode()


@cache
def _library() -> Any:
    """Load the library, once."""
    found = [file for name in LIBRARIES if (file := Path(__file__).with_name(name)).is_file()]
    if not found:
        raise NativeError("the library is missing. Install portabert-native again.")
    library = ctypes.CDLL(str(found[0]))
    if library.portabert_abi() != ABI:
        raise NativeError(
            f"the library has interface {library.portabert_abi()}, and {ABI} is wanted. Install portabert-native again."
        )
    address, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("instruction_sets", text, ()),
        ("error", text, ()),
        ("open", address, (ctypes.POINTER(Shape), text, ctypes.c_int32)),
        ("close", None, (address,)),
        ("set", ctypes.c_int, (address, text, address, ctypes.c_uint64)),
        ("ready", ctypes.c_int, (address,)),
        ("instruction_set", text, (address,)),
        (
            "run",
            ctypes.c_int,
            (address, address, address, address, ctypes.c_int32, ctypes.c_int32, address, ctypes.c_uint64),
        ),
    ):
        function = getattr(library, f"portabert_{name}")
        function.restype, function.argtypes = result, arguments
    return library
