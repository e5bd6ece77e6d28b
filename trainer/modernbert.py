"""The forward pass of ModernBERT (Warner et al. 2024) over packed tokens, through the modules of a transformers model.

    x = norm(words)
    for each layer: x = x + output(attention(rotate(qkv(norm(x))))); x = x + down(act(a) * b), a and b the halves of up(norm(x))
    x = norm(x); head

Most layers attend within a window. Positions are angles by which queries and keys are turned.
"""

from typing import Any

import torch

from .arithmetic import EXACT, Arithmetic
from .packing import Packing
from .post_norm import Attend, Drop


class ModernBert:
    """A model's modules.

    Args:
        model: a transformers ModernBERT with a head for texts or tokens.
        per_token: which of the two.
    """

    padding_idx = None

    def __init__(self, model: Any, *, per_token: bool) -> None:
        self.model, self.layers = model, list(model.model.layers)
        self.num_heads = int(model.config.num_attention_heads)
        self.per_token = per_token
        self.reads_all = per_token or model.config.classifier_pooling == "mean"

    def __call__(self, packing: Packing, attend: Attend, drop: Drop, arithmetic: Arithmetic) -> torch.Tensor:
        """Compute logits: (B, C), or (T, C) for a tagger."""
        embeddings = self.model.model.embeddings
        words = arithmetic.look_up((embeddings.tok_embeddings, packing.input_ids))
        x = drop(embeddings.norm(words), embeddings.drop.p)  # (T, H)
        for index, layer in enumerate(self.layers):
            firsts = packing.firsts if index == len(self.layers) - 1 and not self.reads_all else None
            x = self._layer(layer, x, packing, firsts, attend, drop, arithmetic)
        x = self.model.model.final_norm(x)
        if self.reads_all and not self.per_token:
            x = _means(x, packing)
        return self._label(x, drop, arithmetic)

    def _label(self, x: torch.Tensor, drop: Drop, arithmetic: Arithmetic) -> torch.Tensor:
        """Compute logits. A product with a bias, of a row a text, is a Gemm where the model is traced, and stays exact."""
        head, classifier = self.model.head, self.model.classifier
        multiply = [
            (arithmetic if self.per_token or linear.bias is None else EXACT).multiply
            for linear in (head.dense, classifier)
        ]
        x = head.norm(head.act(multiply[0](x, head.dense)))
        return multiply[1](drop(x, self.model.drop.p), classifier)

    def _layer(
        self,
        layer: Any,
        x: torch.Tensor,
        packing: Packing,
        firsts: torch.Tensor | None,
        attend: Attend,
        drop: Drop,
        arithmetic: Arithmetic,
    ) -> torch.Tensor:
        attention, feed_forward, multiply = layer.attn, layer.mlp, arithmetic.multiply
        q, k, v = multiply(layer.attn_norm(x), attention.Wqkv).chunk(3, dim=1)  # (T, H) each
        cos, sin = attention.rotary_emb(q, position_ids=packing.positions[None])  # (1, T, d)
        q, k = (_turn(part, cos[0], sin[0], self.num_heads) for part in (q, k))
        if firsts is not None:
            x, q = x[firsts], q[firsts]  # (B, H) from here on
        sides = attention.local_attention[0]
        context = attend(
            q,
            torch.cat([k, v], dim=1),
            num_heads=self.num_heads,
            p=attention.attention_dropout,
            window=None if sides < 0 else sides,
        )
        x = x + drop(multiply(context, attention.Wo), getattr(attention.out_drop, "p", 0.0))
        a, b = multiply(layer.mlp_norm(x), feed_forward.Wi).chunk(2, dim=1)
        return x + multiply(drop(feed_forward.act(a) * b, feed_forward.drop.p), feed_forward.Wo)


def unsupported(model: Any) -> str | None:
    """Say why a ModernBERT cannot be walked; None where it can."""
    attention = model.model.layers[0].attn
    if hasattr(attention, "rotary_emb") and hasattr(attention, "local_attention"):
        return None
    return "this version of transformers keeps its rotary embedding elsewhere"


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rotate the pairs (i, i + d/2) of each head by its position's angles (Su et al. 2021): (T, H) → (T, H)."""
    heads = x.view(len(x), num_heads, -1)  # (T, heads, d)
    first, second = heads.chunk(2, dim=-1)
    return (heads * cos[:, None] + torch.cat([-second, first], dim=-1) * sin[:, None]).flatten(1)


def _means(x: torch.Tensor, packing: Packing) -> torch.Tensor:
    """Average the tokens of each text, in a fixed order: (T, H) → (B, H)."""
    means: torch.Tensor = torch.segment_reduce(x.float(), "mean", offsets=packing.bounds, unsafe=True)
    return means
