"""What flows into each product of a model, observed on real texts, and how that shapes int8.

    observe     the fp32 graph on some texts: of each product's input (T, K) the largest magnitudes and second moments
    round_columns   a weight to int8 so that the product's error is least, not the weight's

No label is read. The texts are evaluation rows, the only ones an export has; what is taken from them are K numbers and K × K sums a product.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from runtime.batching import pad
from runtime.encode import Encoded

from .graph import Floats, save
from .products import products
from .row_wise import Stored, column_scale

MAX_TOKENS = (
    8_192  # five times the columns that MiniLM's widest product reads; twice as many change nothing (docs/LOG.md)
)
SAMPLE = 64  # rows that are kept as they are
TEXTS_AT_ONCE = 32  # rows multiplied at once: many, for speed, and few, for memory
DAMPING = 0.01  # of the mean square of an input's columns: GPTQ's own
BLOCK = 128  # columns whose errors are carried on one by one before the rest of the matrix gets them


class Moments(NamedTuple):
    """What was seen of a product's input (T, K).

    Attributes:
        largest: (K,) the largest magnitude of each column.
        second: (K, K) xᵀx, summed over tokens.
        sample: (R, K) some of its rows.
    """

    largest: Floats
    second: Floats
    sample: Floats

    def joined(self, other: "Moments") -> "Moments":
        """Give the moments of both inputs together."""
        return Moments(np.maximum(self.largest, other.largest), self.second + other.second, self.sample)

    def divided(self, by: Floats) -> "Moments":
        """Give the moments of an input whose columns are divided by `by` (K,)."""
        return Moments(self.largest / by, self.second / by[:, None] / by, self.sample / by)


def observe(file: Path, encoded: Encoded, *, inputs: tuple[str, ...], pad_token_id: int) -> dict[str, Moments]:
    """Run texts through an fp32 graph, one at a time, so that no padding is seen.

    Args:
        file: the graph.
        encoded: the texts; of many as many as have MAX_TOKENS tokens, evenly spread.
        inputs: names of the graph's inputs.
        pad_token_id: of the model.

    Returns:
        Moments by the name of each product's weight.
    """
    import onnxruntime

    model = onnx.load(file)
    read = {node.input[1]: node.input[0] for node, _ in products(model.graph)}
    known = {value.name for value in model.graph.output}
    sources = sorted(set(read.values()))
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sources if name not in known
    )
    with TemporaryDirectory(dir=file.parent) as folder:  # as a file, for a model may be too large for one message
        observed = Path(folder, "observed.onnx")
        save(model, observed, check=False)  # the new outputs have no shape, which the standard wants
        del model  # a copy of all weights
        session = onnxruntime.InferenceSession(str(observed), providers=["CPUExecutionProvider"])
    lengths = encoded.batch.lengths
    count = min(len(lengths), max(1, int(MAX_TOKENS / lengths.mean())))
    sums: dict[str, Moments] = {}
    for group in np.array_split(np.arange(count) * len(lengths) // count, -(-count // TEXTS_AT_ONCE)):
        seen: dict[str, list[Floats]] = {name: [] for name in sources}
        for index in group:
            feeds = pad(encoded.batch.take(np.array([index])), inputs=inputs, pad_token_id=pad_token_id).feeds
            for name, values in zip(sources, session.run(sources, feeds), strict=True):
                seen[name].append(values.reshape(-1, values.shape[-1]))  # (T, K)
        for name, parts in seen.items():
            rows = np.concatenate(parts)
            found = Moments(np.abs(rows).max(axis=0), rows.T @ rows, rows[:: -(-len(rows) // SAMPLE)])
            sums[name] = sums[name].joined(found) if name in sums else found
    return {weight: sums[source] for weight, source in read.items()}


def round_columns(weight: Floats, moments: Moments) -> Stored:
    """Round a weight (K, N) to int8 with a scale a column, each row's error made up for by the rows after it.

    GPTQ (Frantar et al., 2022), by decreasing second moment. To nearest, each weight is off by a third of a step, whatever it is multiplied by; here the
    sum over K is what comes out right, for inputs that look like those observed.

    Returns:
        int8 values and scales, as rounding to nearest would give.
    """
    num_rows = len(weight)
    order = np.argsort(-np.diag(moments.second), kind="stable")
    second = moments.second[np.ix_(order, order)].astype(np.float64)
    second = (
        second + second.T
    ) / 2  # summed in fp32, where xᵀx is symmetric but for rounding, which an inverse enlarges
    second[np.diag_indices(num_rows)] += max(DAMPING * float(np.diag(second).mean()), 1e-12)
    # Rows of the Cholesky factor of the inverse say how an error in one row is best spread over the rows that are left.
    upper = np.linalg.cholesky(second[::-1, ::-1])[::-1, ::-1]  # R with RRᵀ = second
    spread = np.linalg.inv(upper)  # upper triangular U with UᵀU = second⁻¹
    scale = column_scale(weight)
    left, values = weight[order].astype(np.float64), np.empty(weight.shape, dtype=np.int8)
    for start in range(0, num_rows, BLOCK):
        end = min(num_rows, start + BLOCK)
        errors = np.empty((end - start, weight.shape[1]))
        for row in range(start, end):
            steps = np.clip(np.rint(left[row] / scale), -127, 127)
            values[order[row]] = steps
            error = (left[row] - steps * scale) / spread[row, row]
            left[row + 1 : end] -= np.outer(spread[row, row + 1 : end], error)
            errors[row - start] = error
        left[end:] -= spread[start:end, end:].T @ errors
    return Stored(values, scale)
