"""A post-norm encoder as data: the weights of a BERT-like model by their roles, whatever its family calls them.

trainer/families.py draws it and says where each family keeps what. What is read here can be written as a graph of our own choosing (encoder_graph.py) instead of as torch traces it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer.families import FAMILIES, TOKEN_HEAD, LayerNames, unsupported

from .graph import Floats


class Linear(NamedTuple):
    """x (…, K) → x · weight (K, N) + bias (N,)."""

    weight: Floats
    bias: Floats


class Norm(NamedTuple):
    """LayerNorm over the last axis.

    Attributes:
        weight: (K,).
        bias: (K,).
        epsilon: added to the variance.
        residual: (K,) what the residual path multiplies the output by; None for nothing. See smooth.py.
    """

    weight: Floats
    bias: Floats
    epsilon: float
    residual: Floats | None = None


class Layer(NamedTuple):
    """One layer's weights."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    norm: Norm


class Step(NamedTuple):
    """One product of the head, and the function after it."""

    linear: Linear
    activation: str | None


@dataclass(frozen=True, kw_only=True)
class EncoderWeights:
    """A model's weights and what its architecture leaves open.

    Attributes:
        words: (V, E).
        positions: (P, E).
        types: (2, E) or (1, E); None where the family has none.
        embedding_norm: after the sum of the three.
        projection: from E to the layers' width, where they differ.
        padding_idx: None where positions count 0, 1, 2 …; else RoBERTa's way: from padding_idx + 1, over tokens that are not padding_idx.
        relative_bias: (heads, 2 L − 1), added to the scores of a query at i and a key at j: column j − i + L − 1; None for most families.
        layers: in order.
        num_heads: of each layer.
        activation: of the feed-forward part; one of families.BOUNDED.
        head: products in order.
        per_token: whether the head reads every token, or the first one of each text.
    """

    words: Floats
    positions: Floats
    types: Floats | None
    embedding_norm: Norm
    projection: Linear | None
    padding_idx: int | None
    relative_bias: Floats | None
    layers: tuple[Layer, ...]
    num_heads: int
    activation: str
    head: tuple[Step, ...]
    per_token: bool

    @property
    def head_size(self) -> int:
        """Numbers a head has of each token."""
        return len(self.layers[0].query.bias) // self.num_heads

    def position_table(self, inputs: tuple[str, ...]) -> Floats:
        """Give positions with types added to them beforehand: row `type · P + position`. Of the first type alone where the model's inputs have no types."""
        if self.types is None:
            return self.positions
        used = self.types if "token_type_ids" in inputs else self.types[:1]
        return (used[:, None] + self.positions).reshape(-1, self.positions.shape[1])


def read_weights(model: Any, *, per_token: bool, max_length: int) -> EncoderWeights | str:
    """Read a PyTorch model's weights by their roles.

    Args:
        model: a transformers model with a head for sequences or tokens.
        per_token: which of the two.
        max_length: the longest text it will be given.

    Returns:
        The encoder, or why this model is none of the kind, for people.
    """
    config = model.config
    family = FAMILIES.get(config.model_type)
    if family is None:
        return f"{config.model_type} is not among the post-norm encoders {', '.join(FAMILIES)}"
    reason = unsupported(config)
    if reason is not None:
        return reason
    base = model.get_submodule(model.base_model_prefix)
    embeddings, layers = base.embeddings, base.get_submodule(family.layers)
    num_heads, activation = (getattr(config, name) for name in family.settings)
    head = TOKEN_HEAD if per_token else family.head
    types = getattr(embeddings, "token_type_embeddings", None)
    projection = getattr(base, "embeddings_project", None)
    return EncoderWeights(
        words=_array(embeddings.word_embeddings.weight),
        positions=_array(embeddings.position_embeddings.weight),
        types=None if types is None else _array(types.weight),
        embedding_norm=_norm(embeddings.LayerNorm),
        projection=None if projection is None else _linear(projection),
        padding_idx=int(embeddings.padding_idx) if family.counts_tokens else None,
        relative_bias=_relative_bias(base.encoder, max_length) if hasattr(base, "encoder") else None,
        layers=tuple(_layer(layer, family.names) for layer in layers),
        num_heads=int(num_heads),
        activation=str(activation),
        head=tuple(Step(_linear(model.get_submodule(name)), function) for name, function in head),
        per_token=per_token,
    )


def _layer(module: torch.nn.Module, names: LayerNames) -> Layer:
    paths = names._asdict()
    read: dict[str, Any] = {"attention_norm": _norm, "norm": _norm}
    return Layer(**{role: read.get(role, _linear)(module.get_submodule(paths[role])) for role in paths})


def _relative_bias(encoder: Any, max_length: int) -> Floats | None:
    if not hasattr(encoder, "relative_attention_bias"):
        return None
    with torch.no_grad():
        bias = _array(encoder.compute_position_bias(torch.empty(1, max_length)))[0]  # (heads, L, L)
    behind, ahead = bias[:, :0:-1, 0], bias[:, 0]  # keys before the query, farthest first; keys from it on
    return np.concatenate([behind, ahead], axis=1)


def _linear(module: Any) -> Linear:
    return Linear(_array(module.weight).T.copy(), _array(module.bias))


def _norm(module: Any) -> Norm:
    return Norm(_array(module.weight), _array(module.bias), float(module.eps))


def _array(tensor: torch.Tensor) -> Floats:
    return tensor.detach().float().numpy()
