"""The products of an encoder, as engines want them: fewer and simpler than its weights say, with the same results.

- Query, key and value are one product. 1/√size is in the query's weights.
- The key's bias is left out, for it moves all scores of a query alike, and the value's stands in the output's bias, for attention's weights sum to 1.
- Of the last layer only the first token of each text is computed where the head reads no other: there the query is a product of its own.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from .encoder_weights import EncoderWeights, Linear


class ProductNames(NamedTuple):
    """The names of a layer's weights, as its products have them; `inputs` are those that read the layer's input."""

    inputs: tuple[str, ...]
    output: str
    up: str
    down: str


class Products(NamedTuple):
    """A layer's products.

    Attributes:
        inputs: by name, those that read the layer's input; only columns of the query have a bias.
        output: of attention.
        up: first of the feed-forward part.
        down: second of it.
    """

    inputs: Mapping[str, Linear]
    output: Linear
    up: Linear
    down: Linear


def product_names(weights: EncoderWeights, number: int) -> ProductNames:
    """Name the products of a layer."""
    name = f"layer_{number}"
    parts = ("key_value", "query") if first_only(weights, number) else ("query_key_value",)
    return ProductNames(tuple(f"{name}_{part}" for part in parts), f"{name}_output", f"{name}_up", f"{name}_down")


def first_only(weights: EncoderWeights, number: int) -> bool:
    """Whether of a layer only first tokens are wanted."""
    return number == len(weights.layers) - 1 and not weights.per_token


def layer_products(weights: EncoderWeights, number: int) -> Products:
    """Give the products of a layer."""
    layer, names = weights.layers[number], product_names(weights, number)
    scale = np.float32(weights.head_size**-0.5)
    query = Linear(layer.query.weight * scale, layer.query.bias * scale)
    parts = [layer.key.weight, layer.value.weight]
    if first_only(weights, number):
        nothing = np.zeros(2 * len(query.bias), dtype=np.float32)
        inputs = [Linear(np.concatenate(parts, axis=1), nothing), query]
    else:
        bias = np.concatenate([query.bias, np.zeros(2 * len(query.bias), dtype=np.float32)])
        inputs = [Linear(np.concatenate([query.weight, *parts], axis=1), bias)]
    output = Linear(layer.output.weight, layer.output.bias + layer.value.bias @ layer.output.weight)
    return Products(dict(zip(names.inputs, inputs, strict=True)), output, layer.up, layer.down)


def encoder_products(weights: EncoderWeights) -> Iterator[tuple[str, Linear]]:
    """Give all products of an encoder but the head's, by name and one after the other, for a large one's merged weights take as much memory again."""
    if weights.projection is not None:
        yield "projection", weights.projection
    for number in range(len(weights.layers)):
        products, names = layer_products(weights, number), product_names(weights, number)
        yield from products.inputs.items()
        yield names.output, products.output
        yield names.up, products.up
        yield names.down, products.down
