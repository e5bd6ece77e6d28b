"""The forward pass of a post-norm encoder (families.py) over packed tokens, through the modules of a transformers model.

What transformers computes for a padded batch, less the padding, less the passes over memory that dropout and attention cost there, and in the last
layer for those tokens alone that the head reads.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from . import families
from .arithmetic import Arithmetic
from .families import FAMILIES, TOKEN_HEAD
from .packing import Packing

Attend = Callable[..., torch.Tensor]  # (q, kv, num_heads=, p=, window=) → context, as attention.attend
Drop = Callable[[torch.Tensor, float], torch.Tensor]  # (x, p) → x with a share p of its numbers dropped
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"tanh": torch.tanh, "gelu": F.gelu, "relu": F.relu}


class PostNorm:
    """A model's modules by their roles.

    Args:
        model: a transformers model of one of `families.FAMILIES` with a head for texts or tokens.
        per_token: which of the two.
    """

    def __init__(self, model: Any, *, per_token: bool) -> None:
        config, family = model.config, FAMILIES[model.config.model_type]
        base = model.get_submodule(model.base_model_prefix)
        names = family.names._asdict()
        self.layers = [
            {role: layer.get_submodule(name) for role, name in names.items()}
            for layer in base.get_submodule(family.layers)
        ]
        self.embeddings, self.projection = base.embeddings, getattr(base, "embeddings_project", None)
        self.num_heads = int(getattr(config, family.settings[0]))
        self.activation_name = str(getattr(config, family.settings[1]))
        self.activation = activation_of(self.activation_name)
        self.p, self.attention_p = (float(getattr(config, name)) for name in family.dropouts)
        self.output_p = self.p if family.drops_attention_output else 0.0
        head = TOKEN_HEAD if per_token else family.head
        self.head = [(model.get_submodule(name), function) for name, function in head]
        self.head_p = float(model.get_submodule("dropout" if per_token else family.head_dropout).p)
        self.drops_features = family.drops_features and not per_token
        self.padding_idx = int(self.embeddings.padding_idx) if family.counts_tokens else None
        self.per_token = per_token

    def __call__(self, packing: Packing, attend: Attend, drop: Drop, arithmetic: Arithmetic) -> torch.Tensor:
        """Compute logits: (B, C), or (T, C) for a tagger."""
        x = self._embed(packing, drop, arithmetic)  # (T, H)
        for index, layer in enumerate(self.layers):
            last = index == len(self.layers) - 1 and not self.per_token
            x = self._layer(layer, x, packing.firsts if last else None, attend, drop, arithmetic)
        return self._label(x, drop)

    def _embed(self, packing: Packing, drop: Drop, arithmetic: Arithmetic) -> torch.Tensor:
        embeddings = self.embeddings
        positions = [(embeddings.position_embeddings, packing.positions)]
        types = getattr(embeddings, "token_type_embeddings", None)
        if types is not None:
            positions.append((types, packing.token_type_ids))
        x = arithmetic.look_up((embeddings.word_embeddings, packing.input_ids), *positions)
        x = drop(embeddings.LayerNorm(x), self.p)
        return x if self.projection is None else arithmetic.multiply(x, self.projection)

    def _layer(
        self,
        layer: dict[str, Any],
        x: torch.Tensor,
        firsts: torch.Tensor | None,
        attend: Attend,
        drop: Drop,
        arithmetic: Arithmetic,
    ) -> torch.Tensor:
        multiply, width = arithmetic.multiply, layer["query"].out_features
        if firsts is None:
            qkv = multiply(x, layer["query"], layer["key"], layer["value"])
            q, kv = torch.split(qkv, [width, 2 * width], dim=1)
        else:
            kv = multiply(x, layer["key"], layer["value"])
            x = x[firsts]  # (B, H) from here on
            q = multiply(x, layer["query"])
        context = attend(q, kv, num_heads=self.num_heads, p=self.attention_p)
        mixed = arithmetic.mix(context, layer["value"], layer["output"])
        x = layer["attention_norm"](x + drop(mixed, self.output_p))
        raised = self.activation(multiply(x, layer["up"]))
        lowered = multiply(raised, layer["down"], activation=self.activation_name)
        return layer["norm"](x + drop(lowered, self.p))  # type: ignore[no-any-return]

    def _label(self, x: torch.Tensor, drop: Drop) -> torch.Tensor:
        if self.drops_features:
            x = drop(x, self.head_p)
        for index, (linear, function) in enumerate(self.head):
            if index == len(self.head) - 1:
                x = drop(x, self.head_p)
            x = linear(x)
            x = x if function is None else ACTIVATIONS[function](x)
        return x


def unsupported(model: Any) -> str | None:
    """Say why a model of one of the families cannot be walked; None where it can."""
    if hasattr(getattr(model.get_submodule(model.base_model_prefix), "encoder", None), "relative_attention_bias"):
        return "its attention has a relative bias"
    return families.unsupported(model.config)


def activation_of(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Give the function that a configuration names."""
    from transformers.activations import get_activation

    function: Callable[[torch.Tensor], torch.Tensor] = get_activation(name)
    return function
