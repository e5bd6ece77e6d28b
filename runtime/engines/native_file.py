"""The file of a native variant: an encoder's tensors as portabert-native reads them, mapped and never copied.

It is a safetensors file, which other tools can open, written so that every tensor its products read begins at a multiple of 64 bytes. What the encoder is
stands in its metadata, as one JSON object; docs/native.md names the tensors.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import BundleError

Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]

ALIGNMENT = 64  # bytes: a cache line, and a register of AVX-512
MAX_HEADER_BYTES = 16 * 2**20  # BERT-large's has 60,000
METADATA, ENTRY = "__metadata__", "portabert"
# bf16, which numpy does not know, is held as the uint16 of its bits.
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "BF16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class NativeFile(NamedTuple):
    """A file's contents.

    Attributes:
        shape: what the encoder is: numbers, or lists of numbers, by the names of `portabert_shape`.
        tensors: by name; they lie in the file.
    """

    shape: Mapping[str, Any]
    tensors: Tensors


def write(file: Path, *, shape: Mapping[str, Any], tensors: Tensors) -> None:
    """Write a file.

    Args:
        file: where it goes.
        shape: what the encoder is.
        tensors: by name, of the types in DTYPES.
    """
    # Whole cache lines come first, so that all of them stay aligned.
    ordered = sorted(tensors.items(), key=lambda item: (item[1].nbytes % ALIGNMENT != 0, item[0]))
    header: dict[str, Any] = {METADATA: {ENTRY: json.dumps(dict(shape))}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            stream.write(np.ascontiguousarray(tensor).data)


def read(file: Path) -> NativeFile:
    """Map a file.

    Raises:
        BundleError: it is none such, or damaged; every offset is checked.
    """
    try:
        mapped = np.memmap(file, dtype=np.uint8, mode="r")
        num_bytes = int.from_bytes(mapped[:8].tobytes(), "little")
        if not 2 <= num_bytes <= min(MAX_HEADER_BYTES, len(mapped) - 8):
            raise ValueError(f"its header has {num_bytes:,} bytes")
        header = json.loads(mapped[8 : 8 + num_bytes].tobytes())
        shape = json.loads(header.pop(METADATA)[ENTRY])
        if not isinstance(shape, dict):
            raise ValueError("its shape is no JSON object")
        data = mapped[8 + num_bytes :]
        tensors = {name: _take(data, name, entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise BundleError(
            f"{file} cannot be read: {exc}. If it was changed or cut short, export the model again."
        ) from exc
    return NativeFile(shape, tensors)


def _take(data: npt.NDArray[np.uint8], name: str, entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    dtype, dimensions, (start, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    numbers = [*dimensions, start, end]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"{name!r} has a shape or offsets that are no natural numbers")
    if end > len(data) or end - start != math.prod(dimensions) * dtype.itemsize or start % dtype.itemsize:
        raise ValueError(f"{name!r} has the shape {dimensions} and lies at {start}–{end} of {len(data)} bytes")
    tensor: npt.NDArray[Any] = data[start:end].view(dtype).reshape(dimensions)
    return tensor
