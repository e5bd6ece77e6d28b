"""Row-wise int8: every row of an activation (a token) has a scale of its own, every column of a weight (an output channel) too.

    x (T, K) ─ Abs ─ ReduceMax ─ × 1/127 ─► scale (T,)
       └─────── QuantizeLinear(axis 0) ─► uint8 ─ MatMulInteger(W int8) ─► int32 ─ Cast ─ × column scale (N,) ─ × row scale (T, 1) ─► (T, N)

A row's result depends on no other row, and its int32 sums are exact: a text has the same logits to the bit alone and in any batch. uint8 by int8 is the
pairing that VNNI and AMX multiply. Only standard operators are written.

The column scale is multiplied by a 1 that is computed from the graph's input. onnxruntime fuses `MatMulInteger, Cast, Mul(·, Mul(scale, scale))` into one
kernel that scales while the sums are still in registers, but only if the inner product is still there when it looks, and a product of two constants is
folded before. The row scale must not stand in the 1's place: the fused kernel would multiply the bias that follows by it too (docs/LOG.md).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from trainer.families import BOUNDED

from .graph import Floats, Graph

TINY = np.float32(1e-20)  # keeps the scale of weights that are all 0 from dividing by zero
INT8 = "_int8"  # ends the names of weights in int8
SYMMETRIC = 128  # the zero point of activations that may be as far below 0 as above


class Stored(NamedTuple):
    """A weight in int8: values (K, N), and the scale of each column (N,)."""

    values: npt.NDArray[np.int8]
    scale: Floats


class Scheme(NamedTuple):
    """Which weights are int8, and how they are rounded.

    Attributes:
        exact: names of the weights and tables that stay in fp32.
        stored: weights that were rounded with care; all others are rounded to nearest.
    """

    exact: frozenset[str] = frozenset()
    stored: Mapping[str, Stored] = {}


PLAIN = Scheme()


class Rows(NamedTuple):
    """The names of an activation (T, K), and of its quantised form: values uint8 (T, K), scale (T, 1), and the zero point."""

    source: str
    values: str
    scale: str
    zero_point: int


def quantize_rows(graph: Graph, x: str, *, rows: str, activation: str | None = None) -> Rows:
    """Quantise each row of x (T, K) by its own largest magnitude.

    Args:
        graph: where nodes are added.
        x: the activation.
        rows: the name of the number of its rows, a list of one; activations that share it share their zero points.
        activation: the function that x came out of, if it is in BOUNDED.
    """
    zero_point, last = SYMMETRIC, graph.ints(-1)
    if activation in BOUNDED:
        lowest, zero_point = BOUNDED[activation]
        largest = graph.op("ReduceMax", x, last, keepdims=0)
        floor = np.float32(lowest / zero_point) if zero_point else TINY
        by_top = graph.op("Mul", largest, graph.scalar(1 / (255 - zero_point)))
        scale = graph.op("Max", by_top, graph.scalar(floor))  # (T,)
    else:
        # A row of zeros has the scale 0: whatever its values become, they are multiplied by it.
        scale = graph.op("Mul", graph.op("ReduceMax", graph.op("Abs", x), last, keepdims=0), graph.scalar(1 / 127))
    zeros = graph.once(f"{rows}_of_{zero_point}", "Expand", graph.scalar(np.uint8(zero_point)), rows)
    values = graph.op("QuantizeLinear", x, scale, zeros, axis=0)
    return Rows(x, values, graph.op("Unsqueeze", scale, last), zero_point)


def multiply_rows(
    graph: Graph, x: Rows, name: str, weight: Floats, *, scheme: Scheme = PLAIN, output: str | None = None
) -> str:
    """Multiply rows (T, K) by a weight (K, N), in int8 unless the scheme keeps it exact."""
    if name in scheme.exact:
        return graph.op("MatMul", x.source, graph.constant(name, weight), output=output)
    columns, scale = _store(graph, name, weight, scheme)
    sums = graph.op("MatMulInteger", x.values, columns, graph.scalar(np.uint8(x.zero_point)))
    by_column = graph.op("Mul", _one(graph), scale)
    return graph.op(
        "Mul", graph.op("Mul", graph.op("Cast", sums, to=TensorProto.FLOAT), by_column), x.scale, output=output
    )


def multiply_stored(
    graph: Graph, x: Rows, name: str, weight: Floats, *, scheme: Scheme = PLAIN, output: str | None = None
) -> str:
    """Multiply x (…, K) by a weight (K, N) that is stored as int8 and read as floats; in which arithmetic is the engine's affair."""
    if name in scheme.exact:
        return graph.op("MatMul", x.source, graph.constant(name, weight), output=output)
    read = graph.op("DequantizeLinear", *_store(graph, name, weight, scheme), axis=1)
    return graph.op("MatMul", x.source, read, output=output)


def _store(graph: Graph, name: str, weight: Floats, scheme: Scheme) -> tuple[str, str]:
    """Add a weight in int8 and the scales of its columns: the names of both."""
    stored = scheme.stored.get(name) or round_to_nearest(weight)
    return graph.constant(f"{name}{INT8}", stored.values), graph.constant(f"{name}_scale", stored.scale)


def look_up_rows(
    graph: Graph, name: str, table: Floats, indices: str, *, scheme: Scheme = PLAIN, output: str | None = None
) -> str:
    """Gather rows of a table (V, E) that is stored as int8 with a scale a row, unless the scheme keeps it exact.

    A scale a table (onnxruntime's own way) would spoil rare rows; a scale a row costs 4 bytes in hundreds.
    """
    if name in scheme.exact:
        return graph.op("Gather", graph.constant(name, table), indices, output=output)
    stored = round_to_nearest(table.T)
    values, scale = (
        graph.constant(f"{name}{INT8}", np.ascontiguousarray(stored.values.T)),
        graph.constant(f"{name}_scale", stored.scale[:, None]),
    )
    gathered = graph.op("Cast", graph.op("Gather", values, indices), to=TensorProto.FLOAT)
    return graph.op("Mul", gathered, graph.op("Gather", scale, indices), output=output)


def column_scale(weight: Floats) -> Floats:
    """Give the scale (N,) by which the largest magnitude of each column becomes 127."""
    scale: Floats = np.maximum(np.abs(weight).max(axis=0) / 127, TINY).astype(np.float32)
    return scale


def round_to_nearest(weight: Floats) -> Stored:
    """Store a weight (K, N) with each number rounded by itself."""
    scale = column_scale(weight)
    return Stored(np.rint(weight / scale).astype(np.int8), scale)


def _one(graph: Graph) -> str:
    """1.0, computed as the lesser of the batch size and 1."""
    batch = graph.once("batch_size", "Shape", "input_ids", start=0, end=1)  # (1,)
    return graph.once("one", "Cast", graph.once("one_int64", "Min", batch, graph.ints(1)), to=TensorProto.FLOAT)
