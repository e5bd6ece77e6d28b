"""What would a CPU without VNNI make of an int8 product?

Its instruction multiplies two pairs of uint8 and int8 and adds them in 16 bits, and a sum beyond ±32,767 sticks there. Our engine on onnxruntime sees that and takes an exact way
(runtime/engines/exactness.py); a program that opens the file without `session.x64quantprecision` would answer with these errors.
"""

from typing import NamedTuple

import numpy as np

from trainer.families import BOUNDED

from .graph import Floats
from .row_wise import SYMMETRIC, Stored

LIMIT = 32_767


class Saturation(NamedTuple):
    """How a product saturates.

    Attributes:
        share: of all sums of a pair, those that stick.
        error: root mean square error of the product, relative to the product's own.
    """

    share: float
    error: float


def emulate(rows: Floats, weight: Stored, *, activation: str | None = None) -> Saturation:
    """Multiply rows as a CPU without VNNI would, and compare with exact sums.

    Args:
        rows: (T, K) of the product's input.
        weight: (K, N).
        activation: the function the rows came out of, as in row_wise.py.
    """
    zero_point = BOUNDED[activation].zero_point if activation in BOUNDED else SYMMETRIC
    largest = (rows if activation in BOUNDED else np.abs(rows)).max(axis=1, keepdims=True)
    scale = np.maximum(largest / (255 - zero_point), np.float32(1e-30))
    values = np.clip(np.rint(rows / scale) + zero_point, 0, 255).astype(np.int32)
    columns = weight.values.astype(np.int32)
    if len(columns) % 2:
        values, columns = np.pad(values, ((0, 0), (0, 1))), np.pad(columns, ((0, 1), (0, 0)))
    stuck, lost, total = 0, np.zeros((len(values), columns.shape[1])), values @ columns
    for k in range(0, len(columns), 2):
        pairs = values[:, k : k + 2] @ columns[k : k + 2]  # (T, N)
        beyond = pairs - np.clip(pairs, -LIMIT - 1, LIMIT)
        stuck += np.count_nonzero(beyond)
        lost += beyond
    exact = total - zero_point * columns.sum(axis=0)
    size = float(np.sqrt(np.mean(np.square(exact, dtype=np.float64)))) or 1.0
    return Saturation(stuck / (lost.size * (len(columns) // 2)), float(np.sqrt(np.mean(lost**2))) / size)
