"""Encoders of random sizes and weights, opened in portabert-native."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.encoder_products import encoder_products
from export.encoder_weights import EncoderWeights, Layer, Linear, Norm, Step
from export.native_weights import write_native
from export.row_wise import PLAIN, Scheme
from runtime.encode import Batch
from runtime.engines import native_file

native = pytest.importorskip("portabert_native", reason="portabert-native is not built")

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
VOCABULARY, MAX_LENGTH = 50, 40


def random_weights(
    seed: int = 0,
    *,
    layers: int = 2,
    heads: int = 2,
    head_size: int = 16,
    hidden: int = 32,
    embedding: int | None = None,
    intermediate: int = 48,
    activation: str = "gelu",
    per_token: bool = False,
    relative: bool = False,
    padding_idx: int | None = None,
    types: bool = True,
    labels: int = 3,
    head: str | None = "tanh",
) -> EncoderWeights:
    """Draw an encoder. Norms are kept near 1, so that logits are of the size that trained models give."""
    generator = np.random.default_rng(seed)
    embedding = None if embedding == hidden else embedding
    inner, width = heads * head_size, embedding or hidden

    def draw(*shape: int, scale: float = 1.0) -> Any:
        return (generator.normal(size=shape) * scale).astype(np.float32)

    def linear(depth: int, out: int) -> Linear:
        return Linear(draw(depth, out, scale=depth**-0.5), draw(out, scale=0.1))

    def norm(size: int, *, smoothed: bool = True) -> Norm:
        residual = np.exp(draw(size, scale=0.1)) if smoothed else None
        return Norm(1 + draw(size, scale=0.1), draw(size, scale=0.1), 1e-12, residual)

    return EncoderWeights(
        words=draw(VOCABULARY, width),
        positions=draw(MAX_LENGTH + 2, width),
        types=draw(2, width) if types else None,
        embedding_norm=norm(width, smoothed=embedding is None),
        projection=None if embedding is None else linear(width, hidden),
        padding_idx=padding_idx,
        relative_bias=draw(heads, 2 * MAX_LENGTH - 1) if relative else None,
        layers=tuple(
            Layer(
                *(linear(hidden, inner) for _ in range(3)),
                linear(inner, hidden),
                norm(hidden),
                linear(hidden, intermediate),
                linear(intermediate, hidden),
                norm(hidden, smoothed=False),
            )
            for _ in range(layers)
        ),
        num_heads=heads,
        activation=activation,
        head=((Step(linear(hidden, hidden), head),) if head else ()) + (Step(linear(hidden, labels), None),),
        per_token=per_token,
    )


def all_exact(weights: EncoderWeights) -> Scheme:
    """Keep every weight in fp32."""
    return Scheme(frozenset({"words", "positions", *(name for name, _ in encoder_products(weights))}))


def write(file: Path, weights: EncoderWeights, *, scheme: Scheme = PLAIN, form: str = "int8") -> Path:
    """Write an encoder's file."""
    write_native(file, weights, scheme=scheme, inputs=INPUTS, max_length=MAX_LENGTH, form=form)
    return file


def open_model(file: Path, *, threads: int = 1, instruction_set: str = "") -> Any:
    """Open a file in portabert-native."""
    contents = native_file.read(file)
    model = native.Model(native.Shape.of(contents.shape), threads=threads, instruction_set=instruction_set)
    model.set(contents.tensors)
    return model


def random_batch(seed: int, lengths: list[int]) -> Batch:
    """Draw packed texts."""
    generator, total = np.random.default_rng(seed), sum(lengths)
    return Batch(
        generator.integers(2, VOCABULARY, total),
        generator.integers(0, 2, total),
        np.cumsum([0, *lengths]).astype(np.int32),
    )


def run(model: Any, batch: Batch, *, together: bool = False) -> Any:
    """Compute a batch's logits."""
    return model.run(*batch, together=together)


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Any]:
    """Draw an encoder, write it and open it."""

    def make(*, threads: int = 1, instruction_set: str = "", scheme: Scheme = PLAIN, **sizes: Any) -> Any:
        file = write(tmp_path / "int8.safetensors", random_weights(**sizes), scheme=scheme)
        return open_model(file, threads=threads, instruction_set=instruction_set)

    return make
