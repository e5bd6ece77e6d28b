"""Where the bytes of a model file are: a table by layer."""

import math
import re
from collections import Counter
from pathlib import Path

import onnx

from .graph import ITEM_BYTES, size_of

LAYER = re.compile(r"(?:^|[./_])(?:layers?|h)[._](\d+)[._]")  # layer_3_up, encoder.layer.3.output, transformer.h.3.mlp


def size_by_layer(file: Path) -> dict[str, int]:
    """Sum up the bytes of a graph's constants by layer; constants outside layers by their own name, small ones together.

    Args:
        file: an ONNX file, whose external data is not read.
    """
    model = onnx.load(file, load_external_data=False)
    sizes: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        num_bytes = math.prod(tensor.dims) * ITEM_BYTES[tensor.data_type]
        found = LAYER.search(tensor.name)
        name = re.sub("_(int8|scale|quantized|zero_point)$", "", tensor.name)
        sizes[f"layer {found[1]}" if found else name if num_bytes >= 4096 or name in sizes else "other"] += num_bytes
    sizes["nodes"] = max(0, size_of(file) - sum(sizes.values()))
    return dict(sizes)
