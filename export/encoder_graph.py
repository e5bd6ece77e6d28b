"""An encoder written as the ONNX graph that runs fastest on CPUs: in exact arithmetic, in row-wise int8, or with int8 weights alone.

write_graph(read_weights(model, …), inputs=…, arithmetic=row_wise(…))

What it does otherwise than a trace, each for time (docs/LOG.md):

- Tokens lie position by position: row s · B + b of every activation is token s of text b. Then heads are views that onnxruntime's products read where
  they lie, (S, B · heads, size), where batch-first heads are copied three times a layer. All between embeddings and head is two-dimensional, (T, width).
- Of the last layer only the first token of each text is computed, where the head reads no other: an eighth of a six-layer model's products.
- Its products are those of encoder_products.py.
- Shapes are computed once, from `input_ids`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from .encoder_products import Products, first_only, layer_products, product_names
from .encoder_weights import EncoderWeights, Linear, Norm
from .graph import IR_VERSION, OPSET, Floats, Graph
from .passes import drop_unused
from .row_wise import PLAIN, Rows, Scheme, look_up_rows, multiply_rows, multiply_stored, quantize_rows

LOWEST = float(np.finfo(np.float32).min)  # added to the scores of padding


class Arithmetic(NamedTuple):
    """How weights are stored and multiplied.

    Attributes:
        prepare: (graph, x (T, K), rows, activation) → what `multiply` takes, once for all products of x.
        multiply: (graph, prepared, name, weight (K, N)) → (T, N).
        look_up: (graph, name, table (V, E), indices) → (…, E).
    """

    prepare: Callable[[Graph, str, str, str | None], Rows]
    multiply: Callable[[Graph, Rows, str, Floats], str]
    look_up: Callable[[Graph, str, Floats, str], str]


EXACT = Arithmetic(
    prepare=lambda graph, x, rows, activation: Rows(x, "", "", 0),
    multiply=lambda graph, x, name, weight: graph.op("MatMul", x.source, graph.constant(name, weight)),
    look_up=lambda graph, name, table, indices: graph.op("Gather", graph.constant(name, table), indices),
)


def row_wise(scheme: Scheme = PLAIN) -> Arithmetic:
    """Give the arithmetic of row_wise.py, with weights stored by a scheme."""
    return Arithmetic(
        prepare=lambda graph, x, rows, activation: quantize_rows(graph, x, rows=rows, activation=activation),
        multiply=partial(multiply_rows, scheme=scheme),
        look_up=partial(look_up_rows, scheme=scheme),
    )


def stored_int8(scheme: Scheme = PLAIN) -> Arithmetic:
    """Give the arithmetic of weights that are int8 in the file and floats to the graph."""
    return Arithmetic(
        prepare=EXACT.prepare,
        multiply=partial(multiply_stored, scheme=scheme),
        look_up=partial(look_up_rows, scheme=scheme),
    )


def _gelu(graph: Graph, x: str) -> str:
    """x · Φ(x), in the nodes that onnxruntime fuses into one."""
    inner = graph.op("Add", graph.op("Erf", graph.op("Div", x, graph.scalar(2**0.5))), graph.scalar(1.0))
    return graph.op("Mul", graph.op("Mul", x, inner), graph.scalar(0.5))


def _gelu_tanh(graph: Graph, x: str) -> str:
    """x / 2 · (1 + tanh(√(2 / π) · (x + 0.044715 · x³)))."""
    cube = graph.op("Mul", graph.op("Mul", x, x), x)
    inner = graph.op("Add", x, graph.op("Mul", cube, graph.scalar(0.044715)))
    share = graph.op("Tanh", graph.op("Mul", inner, graph.scalar((2 / np.pi) ** 0.5)))
    return graph.op("Mul", graph.op("Mul", x, graph.op("Add", share, graph.scalar(1.0))), graph.scalar(0.5))


ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": lambda graph, x: graph.op("Relu", x),
    "tanh": lambda graph, x: graph.op("Tanh", x),
}


class _Sizes(NamedTuple):
    """Names of shapes, each a list of int64: (B,), (S,), (T,) and heads (S, −1, size)."""

    batch: str
    sequence: str
    tokens: str
    heads: str


class _Draft(NamedTuple):
    """What every part of the graph needs."""

    graph: Graph
    weights: EncoderWeights
    arithmetic: Arithmetic
    sizes: _Sizes


def write_graph(weights: EncoderWeights, *, inputs: tuple[str, ...], arithmetic: Arithmetic) -> onnx.ModelProto:
    """Write an encoder's graph: inputs (batch, sequence) int64 as named, output `logits` (batch, labels) or (batch, sequence, labels).

    Args:
        weights: of the encoder.
        inputs: among input_ids, attention_mask and token_type_ids.
        arithmetic: EXACT, row_wise(…) or stored_int8(…).
    """
    graph = Graph()
    draft = _Draft(graph, weights, arithmetic, _sizes(graph, weights))
    x, bias = _embed(draft, inputs), _score_bias(draft)
    for number in range(len(weights.layers)):
        before = weights.layers[number - 1].norm if number else weights.embedding_norm
        x = _layer(draft, number, x, bias, residual=before.residual)
    _head(draft, x)
    num_labels = len(weights.head[-1].linear.bias)
    axes: tuple[str | int, ...] = ("batch", "sequence")
    logits = (*axes, num_labels) if weights.per_token else ("batch", num_labels)
    drawn = helper.make_graph(
        graph.nodes,
        "encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits)],
    )
    model = helper.make_model(drawn, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    graph.move_constants(model.graph)
    drop_unused(model.graph)  # quantised rows that no product in int8 reads
    return model


def _sizes(graph: Graph, weights: EncoderWeights) -> _Sizes:
    batch, sequence = (graph.op("Shape", "input_ids", start=axis, end=axis + 1) for axis in (0, 1))
    heads = graph.op("Concat", sequence, graph.ints(-1, weights.head_size), axis=0)
    return _Sizes(batch, sequence, graph.op("Mul", batch, sequence), heads)


def _embed(draft: _Draft, inputs: tuple[str, ...]) -> str:
    """Give (T, width)."""
    graph, weights, arithmetic, sizes = draft
    ids = graph.op("Transpose", "input_ids", perm=[1, 0])  # (B, S) -> (S, B)
    positions, table = _positions(draft, ids), weights.position_table(inputs)
    if len(table) > len(weights.positions):
        types = graph.op("Transpose", "token_type_ids", perm=[1, 0])
        positions = graph.op("Add", graph.op("Mul", types, graph.scalar(len(weights.positions))), positions)
    words = arithmetic.look_up(graph, "words", weights.words, ids)  # (S, B, E)
    x = graph.op("Add", words, arithmetic.look_up(graph, "positions", table, positions))
    x = _norm(graph, "embedding_norm", weights.embedding_norm, x)
    x = graph.op("Reshape", x, graph.ints(-1, weights.words.shape[1]))  # (S, B, E) -> (T, E)
    if weights.projection is None:
        return x
    return _product(draft, "projection", weights.projection, arithmetic.prepare(graph, x, sizes.tokens, None))


def _positions(draft: _Draft, ids: str) -> str:
    """Give (S, 1), or (S, B) where positions count tokens."""
    graph, weights = draft.graph, draft.weights
    if weights.padding_idx is None:
        return graph.op("Unsqueeze", _places(draft), graph.ints(1))
    padding = graph.scalar(weights.padding_idx)
    seen = graph.op("Cast", graph.op("Not", graph.op("Equal", ids, padding)), to=TensorProto.INT64)
    return graph.op("Add", graph.op("Mul", graph.op("CumSum", seen, graph.scalar(0)), seen), padding)


def _places(draft: _Draft) -> str:
    """Give 0 … S − 1."""
    graph = draft.graph
    return graph.op("Range", graph.scalar(0), graph.op("Squeeze", draft.sizes.sequence), graph.scalar(1))


def _score_bias(draft: _Draft) -> str:
    """Give what is added to the scores of all layers: (B · heads, 1, S), or (B · heads, S, S) with relative positions."""
    graph, weights, _, sizes = draft
    kept = graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden = graph.op("Mul", graph.op("Sub", graph.scalar(1.0), kept), graph.scalar(LOWEST))
    hidden = graph.op("Unsqueeze", hidden, graph.ints(1, 2))  # (B, 1, 1, S)
    if weights.relative_bias is None:
        heads = graph.op("Concat", sizes.batch, graph.ints(weights.num_heads, 1), sizes.sequence, axis=0)
        queries, bias = graph.ints(1), graph.op("Expand", hidden, heads)
    else:
        places = _places(draft)
        apart = graph.op("Sub", places, graph.op("Unsqueeze", places, graph.ints(1)))  # (S, S): key − query
        columns = graph.op("Add", apart, graph.scalar(weights.relative_bias.shape[1] // 2))
        relative = graph.op("Gather", graph.constant("relative_bias", weights.relative_bias), columns, axis=1)
        queries, bias = sizes.sequence, graph.op("Add", hidden, relative)  # (B, heads, S, S)
    return graph.op("Reshape", bias, graph.op("Concat", graph.ints(-1), queries, sizes.sequence, axis=0))


def _layer(draft: _Draft, number: int, x: str, bias: str, *, residual: Floats | None) -> str:
    """Give (T, width), or (B, width) where only first tokens are wanted. `residual` is what x, as a residual, is multiplied by."""
    graph, weights, arithmetic, sizes = draft
    name, names, only_first = f"layer_{number}", product_names(weights, number), first_only(weights, number)
    layer, products = weights.layers[number], layer_products(weights, number)
    context = _attend(draft, name, products, x, bias, only_first=only_first)
    x, num_rows = (_first(draft, x), sizes.batch) if only_first else (x, sizes.tokens)
    rows = arithmetic.prepare(graph, context, num_rows, None)
    x = _residual(graph, f"{name}_input_residual", x, residual)
    x = graph.op("Add", x, _product(draft, names.output, products.output, rows))
    x = _norm(graph, f"{name}_attention_norm", layer.attention_norm, x)
    rows = arithmetic.prepare(graph, x, num_rows, None)
    raised = ACTIVATIONS[weights.activation](graph, _product(draft, names.up, products.up, rows))
    rows = arithmetic.prepare(graph, raised, num_rows, weights.activation)
    x = _residual(graph, f"{name}_residual", x, layer.attention_norm.residual)
    x = graph.op("Add", x, _product(draft, names.down, products.down, rows))
    return _norm(graph, f"{name}_norm", layer.norm, x)


def _attend(draft: _Draft, name: str, products: Products, x: str, bias: str, *, only_first: bool) -> str:
    """Give each token's mixture of the values, before the output product: (T, width), or (B, width)."""
    graph, weights, arithmetic, sizes = draft
    size, width = weights.head_size, weights.num_heads * weights.head_size
    rows = arithmetic.prepare(graph, x, sizes.tokens, None)
    names, linears = list(products.inputs), list(products.inputs.values())
    merged = arithmetic.multiply(graph, rows, names[0], linears[0].weight)
    if only_first:
        k, v = graph.split(merged, 2)
        first_rows = Rows(
            _first(draft, rows.source),
            rows.values and _first(draft, rows.values),
            rows.scale and _first(draft, rows.scale),
            rows.zero_point,
        )
        q = arithmetic.multiply(graph, first_rows, names[1], linears[1].weight)
        if weights.relative_bias is not None:
            bias = graph.op("Slice", bias, graph.ints(0), graph.ints(1), graph.ints(1))
    else:
        q, k, v = graph.split(merged, 3)
    q = graph.op("Add", q, graph.constant(f"{name}_query_bias", linears[-1].bias[:width]))
    q = graph.op("Reshape", q, graph.ints(1, -1, size) if only_first else sizes.heads)
    if only_first:  # twice: onnxruntime sums the products of a lone row in an order that depends on the padding
        q = graph.op("Expand", q, graph.ints(2, 1, 1))
    k, v = (graph.op("Reshape", part, sizes.heads) for part in (k, v))  # (S, B · heads, size)
    # Transposes of whole axes: onnxruntime's products read through them.
    q, v = (graph.op("Transpose", part, perm=[1, 0, 2]) for part in (q, v))
    scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=[1, 2, 0]))  # (B · heads, S or 2, S)
    shares = graph.op("Softmax", graph.op("Add", scores, bias), axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", shares, v), perm=[1, 0, 2])  # (S or 2, B · heads, size)
    if only_first:
        mixed = graph.op("Slice", mixed, graph.ints(0), graph.ints(1), graph.ints(0))
    return graph.op("Reshape", mixed, graph.ints(-1, width))


def _head(draft: _Draft, x: str) -> None:
    graph, weights, _, sizes = draft
    for number, (linear, activation) in enumerate(weights.head):
        weight, bias = (
            graph.constant(f"head_{number}", linear.weight),
            graph.constant(f"head_{number}_bias", linear.bias),
        )
        last = number == len(weights.head) - 1
        x = graph.op("Gemm", x, weight, bias, output="logits" if last and not weights.per_token else None)
        x = ACTIVATIONS[activation](graph, x) if activation else x
    if weights.per_token:
        shape = graph.op("Concat", sizes.sequence, sizes.batch, graph.ints(-1), axis=0)
        graph.op("Transpose", graph.op("Reshape", x, shape), perm=[1, 0, 2], output="logits")  # (T, C) -> (B, S, C)


def _product(draft: _Draft, name: str, linear: Linear, rows: Rows) -> str:
    graph = draft.graph
    product = draft.arithmetic.multiply(graph, rows, name, linear.weight)
    return graph.op("Add", product, graph.constant(f"{name}_bias", linear.bias))


def _norm(graph: Graph, name: str, norm: Norm, x: str) -> str:
    weight, bias = graph.constant(f"{name}_weight", norm.weight), graph.constant(f"{name}_bias", norm.bias)
    return graph.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.epsilon)


def _residual(graph: Graph, name: str, x: str, factors: Floats | None) -> str:
    return x if factors is None else graph.op("Mul", x, graph.constant(name, factors))


def _first(draft: _Draft, x: str) -> str:
    """Keep the first token of each text: the first B rows."""
    return draft.graph.op("Slice", x, draft.graph.ints(0), draft.sizes.batch, draft.graph.ints(0))
