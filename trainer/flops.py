"""How many FLOPs a text takes: the model's own, counted from its configuration and the text's real tokens.

2 · weights · tokens, and attention's two products; to learn from it three times as many, for the backward pass takes twice the forward's (Kaplan et al. 2020,
section 2.1). Padding, softmax, norms and lookups are not counted, nor is what a program leaves out (of the last layer, portabert computes the tokens alone
that the head reads): it is the same count for all, as of a model FLOPs utilisation.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.errors import InputError

TRAINING = 3  # passes that learning from a text costs: one forward, and a backward of two
ADAPTING = 2  # with adapters: the gradients of weights that stay as they are take no pass, and the adapters' own products are small


class Shape(NamedTuple):
    """The sizes of an encoder that its FLOPs follow from.

    Attributes:
        layers: how many.
        hidden: the width of a token's vector.
        intermediate: the width inside a feed-forward block.
        embedding: the width of the embedding tables; narrower than `hidden` in ELECTRA, which then projects.
        labels: of the classification head.
    """

    layers: int
    hidden: int
    intermediate: int
    embedding: int
    labels: int


# config.json's names of layers, hidden and intermediate, by model_type.
_USUAL = ("num_hidden_layers", "hidden_size", "intermediate_size")
FAMILIES: dict[str, tuple[str, str, str]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet"), _USUAL),
    "distilbert": ("n_layers", "dim", "hidden_dim"),
}


def read_shape(config: Mapping[str, Any]) -> Shape:
    """Read a model's sizes from its configuration, as config.json has it.

    Raises:
        InputError: a family whose FLOPs are not known.
    """
    family = config["model_type"]
    if family not in FAMILIES:
        raise InputError(f"FLOPs are counted for {', '.join(FAMILIES)}. Got model_type {family!r} instead.")
    layers, hidden, intermediate = (int(config[name]) for name in FAMILIES[family])
    embedding = int(config.get("embedding_size", hidden))
    return Shape(layers, hidden, intermediate, embedding, len(config.get("id2label", (0, 1))))


def flops_of_texts(shape: Shape, lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Count the FLOPs of each text, a multiplication and an addition being two.

    A token passes in each layer four products hidden × hidden (query, key, value, output) and two hidden × intermediate; attention multiplies the n tokens of
    a text with each other twice; the first token alone passes the head's hidden × hidden and hidden × labels.

    Args:
        shape: the model.
        lengths: (B,) tokens of each text.
    """
    n, h = lengths.astype(np.float64), shape.hidden
    weights = shape.layers * (4 * h * h + 2 * h * shape.intermediate)
    if shape.embedding != h:
        weights += shape.embedding * h
    attention = shape.layers * 2 * n * n * h
    head = h * h + h * shape.labels
    return np.asarray(2 * (weights * n + attention + head))
