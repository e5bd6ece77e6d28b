"""Which of the two ways a model is trained: packed where that gives the answers of transformers' own forward pass, else padded."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from runtime.encode import Batch

from .errors import ModelError
from .losses import Floats
from .packed import PACKED, Packed, unsupported
from .padded import Padded

Network: TypeAlias = Packed | Padded
TOLERANCE = 1e-4  # of fp32 logits, beside the largest of them; 1e-6 is usual
NUM_TRIED = 8  # texts, the shortest and the longest among them


class Choice(NamedTuple):
    """A network, and a line about it for people."""

    network: Network
    description: str


def choose_network(model: Any, *, per_token: bool, inputs: tuple[str, ...], pad_token_id: int, texts: Batch) -> Choice:
    """Choose how a model is trained.

    Args:
        model: a transformers model, where it will be trained.
        per_token: whether its head labels tokens.
        inputs: the names of what it is fed.
        pad_token_id: what a rectangle is filled with.
        texts: of the training data; a packed pass is tried on a few before it is trusted.
    """
    padded = Padded(model, inputs=inputs, pad_token_id=pad_token_id)
    reason = unsupported(model)
    if reason is None:
        packed = Packed(model, per_token=per_token, inputs=inputs)
        apart = difference(try_out(packed, texts), try_out(padded, texts))
        if apart <= TOLERANCE:
            return Choice(packed, packed.description)
        reason = f"this version of transformers computes something else: logits differ by {apart:.1e}"
    return Choice(padded, f"texts are padded to their batch's longest: no packed pass for this model ({reason})")


def answer_in_int8(network: Network, name: str) -> None:
    """Let a network be evaluated in the int8 that an export of it writes.

    Args:
        network: of `choose_network`.
        name: the model's, for people.

    Raises:
        ModelError: it is not packed; only packed passes compute in int8.
    """
    if isinstance(network, Padded):
        raise ModelError(
            f"--quant-aware needs a packed pass, which {name} has not ({', '.join(PACKED)} have). Leave the flag out."
        )
    network.answers_in_int8 = True


def try_out(network: Network, texts: Batch) -> Floats:
    """Compute in fp32 the logits of a few texts, one after the other, of all lengths."""
    by_length = np.argsort(-texts.lengths, kind="stable")
    tried = texts.take(by_length[np.linspace(0, len(by_length) - 1, NUM_TRIED).astype(np.intp)])
    network.eval()
    with torch.no_grad():
        logits = network(network.feed(tried)).float().cpu().numpy()
    return np.concatenate([row.ravel() for row in network.split(logits, tried.lengths)])


def difference(logits: Floats, expected: Floats) -> float:
    """Give the largest difference, beside the largest logit."""
    return float(np.abs(logits - expected).max() / max(1.0, np.abs(expected).max()))
