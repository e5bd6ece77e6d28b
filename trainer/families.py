"""Post-norm encoders: where each architecture keeps its modules, by their roles.

    x = norm(words + positions + types)
    for each layer: x = norm(x + output(attention(query(x), key(x), value(x)))); x = norm(x + down(activation(up(x))))
    head

Training walks them over packed tokens (post_norm.py), the exporter draws them as a graph.
"""

from typing import Any, NamedTuple


class LayerNames(NamedTuple):
    """Where a layer keeps its modules."""

    query: str
    key: str
    value: str
    output: str
    attention_norm: str
    up: str
    down: str
    norm: str


class Family(NamedTuple):
    """Where an architecture keeps its modules and settings, below the model.

    Attributes:
        layers: the list of layers, below the encoder.
        names: below a layer.
        head: of a model that labels texts: names below the model, and the function after each.
        settings: the configuration's names of heads and activation.
        dropouts: the configuration's names of the shares dropped of states and of attention's weights.
        head_dropout: the dropout of such a head; it comes before the last product.
        drops_features: whether it comes before the first one, too.
        drops_attention_output: whether the attention's output is dropped before it is added.
        counts_tokens: whether positions go RoBERTa's way: from padding_idx + 1, over tokens that are not padding_idx.
    """

    layers: str
    names: LayerNames
    head: tuple[tuple[str, str | None], ...]
    settings: tuple[str, str] = ("num_attention_heads", "hidden_act")
    dropouts: tuple[str, str] = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    head_dropout: str = "classifier.dropout"
    drops_features: bool = True
    drops_attention_output: bool = True
    counts_tokens: bool = False


_BERT = LayerNames(
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_DISTILBERT = LayerNames(
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "sa_layer_norm",
    "ffn.lin1",
    "ffn.lin2",
    "output_layer_norm",
)
_MPNET = _BERT._replace(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    output="attention.attn.o",
    attention_norm="attention.LayerNorm",
)
_TANH_HEAD = (("classifier.dense", "tanh"), ("classifier.out_proj", None))
_ROBERTA = Family("encoder.layer", _BERT, _TANH_HEAD, counts_tokens=True)

FAMILIES: dict[str, Family] = {
    "bert": Family(
        "encoder.layer",
        _BERT,
        (("bert.pooler.dense", "tanh"), ("classifier", None)),
        head_dropout="dropout",
        drops_features=False,
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": Family("encoder.layer", _BERT, (("classifier.dense", "gelu"), ("classifier.out_proj", None))),
    "distilbert": Family(
        "transformer.layer",
        _DISTILBERT,
        (("pre_classifier", "relu"), ("classifier", None)),
        settings=("n_heads", "activation"),
        dropouts=("dropout", "attention_dropout"),
        head_dropout="dropout",
        drops_features=False,
        drops_attention_output=False,
    ),
    "mpnet": Family("encoder.layer", _MPNET, _TANH_HEAD, counts_tokens=True),
}
TOKEN_HEAD = (("classifier", None),)  # of a model that labels tokens; `dropout` comes before it


class Bounded(NamedTuple):
    """An activation function that is bounded below, so that in int8 most of the 256 steps can lie above 0.

    Attributes:
        lowest: the least value it gives, as a magnitude.
        zero_point: steps that are kept for what is below 0.
    """

    lowest: float
    zero_point: int


# The least value of x·Φ(x) is −0.16997 at −0.7518, of its form by tanh −0.17005. With 24 steps below 0, 231 lie above, where symmetric rows have 127. Rows whose largest value is
# below 1.64 get steps of 0.17 / 24, which symmetric rows would have from 0.90 down.
_BY_TANH = Bounded(0.1701, 24)
BOUNDED = {  # the functions of the feed-forward part
    "gelu": Bounded(0.17, 24),
    "gelu_new": _BY_TANH,
    "gelu_pytorch_tanh": _BY_TANH,
    "relu": Bounded(0.0, 0),
}


def unsupported(config: Any) -> str | None:
    """Say in which way a model of one of the families is not as drawn above, going by its configuration; None where it is."""
    relative = getattr(config, "position_embedding_type", None) not in (None, "absolute")
    if relative or getattr(config, "is_decoder", False):
        return f"this {config.model_type} has relative positions, or is a decoder"
    activation = getattr(config, FAMILIES[config.model_type].settings[1])
    return None if activation in BOUNDED else f"its activation {activation!r} is not among {', '.join(BOUNDED)}"
