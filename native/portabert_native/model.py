"""An encoder: its shape, its tensors, and texts through it."""

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .library import NativeError, check, last_error, library

MAX_STEPS = 4  # products of a head


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
    names: bytes = library().portabert_instruction_sets()
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
        self._library = library()
        self._tensors: Mapping[str, npt.NDArray[Any]] = {}
        self._handle = self._library.portabert_open(ctypes.byref(shape), instruction_set.encode(), threads)
        if not self._handle:
            raise NativeError(last_error())
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
            check(self._library.portabert_set(self._handle, name.encode(), tensor.ctypes.data, tensor.nbytes))
        check(self._library.portabert_ready(self._handle))
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
        check(
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
