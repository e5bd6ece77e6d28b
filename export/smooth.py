"""Even out the columns of what an encoder's products read, so that one scale a row serves them all.

A few columns of a LayerNorm's output are ten times as large as the others, and with one scale a token they leave the others few steps. They are
divided by factors, the weights they meet are multiplied by them (SmoothQuant, Xiao et al., 2022, with its α of a half), and nothing else changes:

    after a LayerNorm    its weight and bias are divided; the residual, which wants the values as they were, is multiplied back
    before the output    the value's weights are divided: attention mixes tokens, not columns
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .calibrate import Moments
from .encoder_products import product_names
from .encoder_weights import EncoderWeights, Layer, Linear, Norm
from .graph import Floats

ALPHA = 0.5
SMALLEST = np.float32(1e-5)  # a column that is never used is not blown up without end


def smooth(weights: EncoderWeights, moments: Mapping[str, Moments]) -> tuple[EncoderWeights, dict[str, Moments]]:
    """Move the spread of columns from activations into weights; the encoder computes what it did.

    Args:
        weights: of the encoder.
        moments: of each product's input.

    Returns:
        The encoder, and the moments of its products' inputs.
    """
    moments, layers = dict(moments), list(weights.layers)
    embedding_norm = weights.embedding_norm
    for number, layer in enumerate(layers):
        names = product_names(weights, number)
        before = layers[number - 1].norm if number else embedding_norm
        if number or weights.projection is None:  # a projection stands between the first norm and the first layer
            factors = _factors(moments[names.inputs[0]], [layer.query, layer.key, layer.value])
            before = _divide_norm(before, factors)
            query, key, value = (_multiply(linear, factors) for linear in (layer.query, layer.key, layer.value))
            layer = layer._replace(query=query, key=key, value=value)
            _divide_moments(moments, names.inputs, factors)
            if number:
                layers[number - 1] = layers[number - 1]._replace(norm=before)
            else:
                embedding_norm = before
        layers[number] = _smooth_inside(layer, names.output, names.up, moments)
    return replace(weights, layers=tuple(layers), embedding_norm=embedding_norm), moments


def _smooth_inside(layer: Layer, output: str, up: str, moments: dict[str, Moments]) -> Layer:
    factors = _factors(moments[output], [layer.output])
    value = Linear(layer.value.weight / factors, layer.value.bias / factors)
    layer = layer._replace(value=value, output=_multiply(layer.output, factors))
    _divide_moments(moments, [output], factors)
    factors = _factors(moments[up], [layer.up])
    _divide_moments(moments, [up], factors)
    return layer._replace(attention_norm=_divide_norm(layer.attention_norm, factors), up=_multiply(layer.up, factors))


def _factors(moments: Moments, readers: Sequence[Linear]) -> Floats:
    """Give (K,) factors, of geometric mean 1."""
    rows = np.max([np.abs(linear.weight).max(axis=1) for linear in readers], axis=0)  # (K,)
    ratio = np.maximum(moments.largest, SMALLEST) ** ALPHA / np.maximum(rows, SMALLEST) ** (1 - ALPHA)
    factors: Floats = (ratio / np.exp(np.log(ratio).mean())).astype(np.float32)
    return factors


def _multiply(linear: Linear, factors: Floats) -> Linear:
    return Linear(linear.weight * factors[:, None], linear.bias)


def _divide_norm(norm: Norm, factors: Floats) -> Norm:
    return norm._replace(weight=norm.weight / factors, bias=norm.bias / factors, residual=factors)


def _divide_moments(moments: dict[str, Moments], names: Sequence[str], factors: Floats) -> None:
    for name in names:
        moments[name] = moments[name].divided(factors)
