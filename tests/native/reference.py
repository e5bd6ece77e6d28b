"""What docs/native.md says an encoder computes, in numpy's float64 and text by text: every rounding that is meant, and none that is not."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from export.encoder_products import layer_products
from export.encoder_weights import EncoderWeights, Linear, Norm
from export.row_wise import TINY, round_to_nearest
from runtime.encode import Batch
from trainer.families import BOUNDED

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


def logits_of(weights: EncoderWeights, batch: Batch, form: str) -> Array:
    """Compute (B, C), or (T, C) where the head reads every token."""
    texts = zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True)
    return np.concatenate(
        [_text(weights, batch.input_ids[a:b], batch.token_type_ids[a:b], FORMS[form]) for a, b in texts]
    )


def _text(weights: EncoderWeights, ids: Any, types: Any, form: Form) -> Array:
    positions = np.arange(len(ids))
    if weights.padding_idx is not None:
        seen = ids != weights.padding_idx
        positions = np.cumsum(seen) * seen + weights.padding_idx
    if weights.types is not None:
        positions = positions + types * len(weights.positions)
    x = form.table(weights.words)[ids] + form.table(weights.position_table(INPUTS))[positions]
    x, residual = _norm(x, weights.embedding_norm), weights.embedding_norm.residual
    if weights.projection is not None:
        x = _linear(x, weights.projection, form)
    for number, layer in enumerate(weights.layers):
        products = layer_products(weights, number)
        parts = np.concatenate([_linear(x, linear, form) for linear in products.inputs.values()], axis=1)
        query_first = len(products.inputs) == 1  # a last layer's query is a product of its own, behind key and value
        q, k, v = np.split(parts, 3, axis=1) if query_first else np.roll(np.split(parts, 3, axis=1), 1, axis=0)
        mixed = _attend(weights, q, k, v)
        x = _norm(_linear(mixed, products.output, form) + _scaled(x, residual), layer.attention_norm)
        raised = FUNCTIONS[weights.activation](_linear(x, products.up, form))
        lowered = _linear(raised, products.down, form, activation=weights.activation)
        x, residual = _norm(lowered + _scaled(x, layer.attention_norm.residual), layer.norm), layer.norm.residual
    x = x if weights.per_token else x[:1]
    for step in weights.head:
        x = FUNCTIONS[step.activation](_linear(x, step.linear, FORMS["exact"]))
    return x


def _attend(weights: EncoderWeights, query: Array, key: Array, value: Array) -> Array:
    heads = zip(*(np.split(to_bf16(part), weights.num_heads, axis=1) for part in (query, key, value)), strict=True)
    mixed = []
    for head, (q, k, v) in enumerate(heads):
        scores = q @ k.T
        if weights.relative_bias is not None:
            places = np.arange(len(q))
            middle = weights.relative_bias.shape[1] // 2
            scores = scores + weights.relative_bias[head, places - places[:, None] + middle]
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        mixed.append(to_bf16(shares) @ v / shares.sum(axis=1, keepdims=True))
    return np.concatenate(mixed, axis=1)


def _linear(x: Array, linear: Linear, form: Form, *, activation: str | None = None) -> Array:
    return form.multiply(x, linear.weight, activation) + linear.bias


def _norm(x: Array, norm: Norm) -> Array:
    apart = x - x.mean(axis=1, keepdims=True)
    return np.asarray(apart / np.sqrt((apart**2).mean(axis=1, keepdims=True) + norm.epsilon) * norm.weight + norm.bias)


def _scaled(x: Array, factors: Any) -> Array:
    return x if factors is None else x * factors
