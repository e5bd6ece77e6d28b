"""Where the bytes of a model file are: a table by layer."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx

from runtime.engines import native_file

from .graph import ITEM_BYTES, size_of

LAYER = re.compile(r"(?:^|[./_])(?:layers?|h)[._](\d+)[._]")  # layer_3_up, encoder.layer.3.output, transformer.h.3.mlp


def size_by_layer(file: Path) -> dict[str, int]:
    """Sum up the bytes of a model's constants by layer; constants outside layers by their own name, small ones together.

    Args:
        file: an ONNX file, whose external data is not read, or a native variant's.
    """
    sizes: Counter[str] = Counter()
    for constant, num_bytes in _native_constants(file) if file.suffix == ".safetensors" else _graph_constants(file):
        found = LAYER.search(constant)
        name = re.sub("_(int8|scale|sum|quantized|zero_point)$", "", constant)
        sizes[f"layer {found[1]}" if found else name if num_bytes >= 4096 or name in sizes else "other"] += num_bytes
    sizes["nodes"] = max(0, size_of(file) - sum(sizes.values()))
    return dict(sizes)


def _graph_constants(file: Path) -> Iterator[tuple[str, int]]:
    for tensor in onnx.load(file, load_external_data=False).graph.initializer:
        yield tensor.name, math.prod(tensor.dims) * ITEM_BYTES[tensor.data_type]


def _native_constants(file: Path) -> Iterator[tuple[str, int]]:
    return ((name, tensor.nbytes) for name, tensor in native_file.read(file).tensors.items())
