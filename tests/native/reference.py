"""What docs/native.md says an encoder computes, in numpy's float64 and text by text: every rounding that is meant, and none that is not."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from export.encoder_products import layer_products, product_names
from export.encoder_weights import EncoderWeights, Linear, Norm
from export.row_wise import BOUNDED, TINY, round_to_nearest
from runtime.encode import Batch

from .conftest import INPUTS

Array = npt.NDArray[np.float64]


class Form(NamedTuple):
    """How products and tables are rounded.

    Attributes:
        multiply: (rows (T, K), weight (K, N), the activation that the rows came out of) → (T, N).
        table: a table (V, E) → as it is read.
    """

    multiply: Callable[[Array, Any, str | None], Array]
    table: Callable[[Any], Array]


def to_bf16(x: Any) -> Array:
    return torch.from_numpy(np.asarray(x, dtype=np.float32)).bfloat16().double().numpy()


def _multiply_int8(x: Array, weight: Any, activation: str | None) -> Array:
    stored = round_to_nearest(weight)
    if activation in BOUNDED:
        lowest, zero_point = BOUNDED[activation]
        floor = lowest / zero_point if zero_point else float(TINY)
        scale = np.maximum(x.max(axis=1, keepdims=True) / (255 - zero_point), floor)
        values = np.clip(np.rint(x / scale) + zero_point, 0, 255) - zero_point
    else:
        scale = np.maximum(np.abs(x).max(axis=1, keepdims=True) / 127, float(TINY))
        values = np.rint(x / scale)
    return np.asarray((values @ stored.values.astype(np.float64)) * scale * stored.scale)


def _int8_table(table: Any) -> Array:
    stored = round_to_nearest(table.T)
    return np.asarray((stored.values * stored.scale.astype(np.float64)).T)


FORMS = {
    "exact": Form(lambda x, weight, activation: np.asarray(x @ weight.astype(np.float64)), lambda table: table),
    "int8": Form(_multiply_int8, _int8_table),
    "bf16": Form(lambda x, weight, activation: np.asarray(to_bf16(x) @ to_bf16(weight)), to_bf16),
}
FUNCTIONS: dict[str | None, Callable[[Array], Array]] = {
    None: lambda x: x,
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2,
    "gelu_new": lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
}


class _Model(NamedTuple):
    """A model and how it is rounded."""

    weights: EncoderWeights
    form_of: Callable[[str], Form]
    round: Callable[[Any], Array]  # what attention multiplies

    def linear(self, name: str, x: Array, linear: Linear, activation: str | None = None) -> Array:
        """Multiply rows that came out of an activation."""
        return self.form_of(name).multiply(x, linear.weight, activation) + linear.bias


def logits_of(weights: EncoderWeights, batch: Batch, form_of: Callable[[str], str] | None) -> Array:
    """Compute (B, C), or (T, C) where the head reads every token.

    Args:
        weights: of the encoder.
        batch: texts.
        form_of: the form of each weight, by name; None to round nothing, in attention neither.
    """
    if form_of is None:
        model = _Model(weights, lambda name: FORMS["exact"], lambda x: x)
    else:
        model = _Model(weights, lambda name: FORMS[form_of(name)], to_bf16)
    texts = zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True)
    return np.concatenate([_text(model, batch.input_ids[a:b], batch.token_type_ids[a:b]) for a, b in texts])


def _text(model: _Model, ids: Any, types: Any) -> Array:
    weights = model.weights
    positions = np.arange(len(ids))
    if weights.padding_idx is not None:
        seen = ids != weights.padding_idx
        positions = np.cumsum(seen) * seen + weights.padding_idx
    if weights.types is not None:
        positions = positions + types * len(weights.positions)
    tables = {"words": weights.words, "positions": weights.position_table(INPUTS)}
    words, places = (model.form_of(name).table(table) for name, table in tables.items())
    x, residual = _norm(words[ids] + places[positions], weights.embedding_norm), weights.embedding_norm.residual
    if weights.projection is not None:
        x = model.linear("projection", x, weights.projection)
    for number, layer in enumerate(weights.layers):
        products, names = layer_products(weights, number), product_names(weights, number)
        inputs = [model.linear(name, x, linear) for name, linear in products.inputs.items()]
        parts = np.split(np.concatenate(inputs, axis=1), 3, axis=1)
        q, k, v = parts if len(inputs) == 1 else (parts[2], parts[0], parts[1])  # a last layer's query comes behind
        mixed = model.linear(names.output, _attend(model, q, k, v), products.output)
        x = _norm(mixed + _scaled(x, residual), layer.attention_norm)
        raised = FUNCTIONS[weights.activation](model.linear(names.up, x, products.up))
        lowered = model.linear(names.down, raised, products.down, weights.activation)
        x, residual = _norm(lowered + _scaled(x, layer.attention_norm.residual), layer.norm), layer.norm.residual
    x = x if weights.per_token else x[:1]
    for step in weights.head:
        x = FUNCTIONS[step.activation](FORMS["exact"].multiply(x, step.linear.weight, None) + step.linear.bias)
    return x


def _attend(model: _Model, query: Array, key: Array, value: Array) -> Array:
    weights = model.weights
    heads = zip(*(np.split(model.round(part), weights.num_heads, axis=1) for part in (query, key, value)), strict=True)
    mixed = []
    for head, (q, k, v) in enumerate(heads):
        scores = q @ k.T
        if weights.relative_bias is not None:
            places = np.arange(len(q))
            middle = weights.relative_bias.shape[1] // 2
            scores = scores + weights.relative_bias[head, places - places[:, None] + middle]
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        mixed.append(model.round(shares) @ v / shares.sum(axis=1, keepdims=True))
    return np.concatenate(mixed, axis=1)


def _norm(x: Array, norm: Norm) -> Array:
    apart = x - x.mean(axis=1, keepdims=True)
    return np.asarray(apart / np.sqrt((apart**2).mean(axis=1, keepdims=True) + norm.epsilon) * norm.weight + norm.bias)


def _scaled(x: Array, factors: Any) -> Array:
    return x if factors is None else x * factors
