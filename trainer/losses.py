"""What training minimises, as sums over targets, and the weights that balance labels.

The loop divides by the number of targets in the whole optimizer step, so that neither accumulation nor several processes change the gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Floats: TypeAlias = npt.NDArray[np.float32]
Target: TypeAlias = npt.NDArray[Any]  # of one text: () int64, (C,) float32, () float32 or (t,) int64
IGNORED = -100  # a token that has no target: special tokens, and all but a word's first
EFFECTIVE_BETA = 0.9999  # of Cui et al. 2019; theirs for data sets of this size


class LossOptions(NamedTuple):
    """What a user may choose about a loss.

    Attributes:
        weights: (C,) of the labels, or None.
        label_smoothing: share of the target that is spread over the other labels.
        focal_gamma: how much less a target counts that is already likely; 0 for cross-entropy as it is.
    """

    weights: torch.Tensor | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, options: LossOptions) -> torch.Tensor:
    """Sum -(1 - p)^γ log p over targets, p being the probability of the true label (Lin et al. 2017; γ = 0: cross-entropy).

    Args:
        logits: (B, C), or (T, C) or (B, S, C) of tokens.
        targets: (B,), (T,) or (B, S); IGNORED counts for nothing.
        options: weights multiply each target's loss by its label's.
    """
    flat, wanted = logits.flatten(0, -2), targets.flatten()
    settings: dict[str, Any] = {"ignore_index": IGNORED, "label_smoothing": options.label_smoothing}
    if not options.focal_gamma:
        return F.cross_entropy(flat, wanted, weight=options.weights, reduction="sum", **settings)
    losses = F.cross_entropy(flat, wanted, weight=options.weights, reduction="none", **settings)
    likely = torch.exp(-F.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="none"))
    return ((1 - likely) ** options.focal_gamma * losses).sum()


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, options: LossOptions) -> torch.Tensor:
    """Sum the binary cross-entropies of all labels, focal as `cross_entropy`; weights multiply the presence of a label. Both (B, C)."""
    if not options.focal_gamma:
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=options.weights, reduction="sum")
    losses = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=options.weights, reduction="none")
    likely = torch.where(targets > 0, logits.sigmoid(), (-logits).sigmoid())
    return ((1 - likely) ** options.focal_gamma * losses).sum()


def square_error(logits: torch.Tensor, targets: torch.Tensor, options: LossOptions) -> torch.Tensor:
    """Sum the squared differences of logits (B, 1) and targets (B,)."""
    return F.mse_loss(logits.squeeze(-1), targets, reduction="sum")


# Weights


def inverse(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weigh a label by the inverse of its rows (King & Zeng 2001, scikit-learn's "balanced")."""
    return 1 / np.maximum(counts, 1)


def effective(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weigh a label by the inverse of its effective number of rows, (1 - βⁿ) / (1 - β): rows resemble one another (Cui et al. 2019)."""
    return np.asarray((1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA ** np.maximum(counts, 1)))


WEIGHTINGS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "inverse": inverse,
    "effective": effective,
}


def label_weights(targets: Sequence[Target], num_labels: int, weighting: str) -> Floats:
    """Balance labels that exclude each other so that the mean weight of a target is 1.

    A label without a row weighs 1: label smoothing looks at its weight, and nothing is known of it.
    """
    flat = np.concatenate([np.ravel(target) for target in targets])
    counts = np.bincount(flat[flat != IGNORED], minlength=num_labels).astype(np.float64)
    weights = WEIGHTINGS[weighting](counts)
    return np.where(counts > 0, weights * counts.sum() / (weights * counts).sum(), 1).astype(np.float32)


def presence_weights(targets: Sequence[Target], num_labels: int, weighting: str) -> Floats:
    """Weigh a label's presence by how much rarer it is than its absence."""
    present = np.stack(targets).sum(axis=0).astype(np.float64)
    weigh = WEIGHTINGS[weighting]
    return np.asarray(weigh(present) / weigh(len(targets) - present), dtype=np.float32)


# What an answer that looks at no text would cost: the best one for some targets, on the same or on others of them. A run that ends no better has learnt nothing.


def constant_cross_entropy(targets: Sequence[Target], measured: Sequence[Target]) -> float:
    """Give the mean cross-entropy, on some targets, of the labels' shares in all."""
    flat, chosen = (np.concatenate([np.ravel(target) for target in some]) for some in (targets, measured))
    shares = np.bincount(flat[flat != IGNORED]) / max(1, (flat != IGNORED).sum())
    return float(-np.log(shares[chosen[chosen != IGNORED]]).mean())


def constant_binary_cross_entropy(targets: Sequence[Target], measured: Sequence[Target]) -> float:
    """Give the mean binary cross-entropy over labels, on some targets, of the labels' shares in all."""
    shares = np.stack(targets).mean(axis=0).clip(1e-12, 1 - 1e-12)
    present = np.stack(measured).mean(axis=0)
    return float(-(present * np.log(shares) + (1 - present) * np.log(1 - shares)).mean())


def constant_square_error(targets: Sequence[Target], measured: Sequence[Target]) -> float:
    """Give the mean square error, on some targets, of the mean of all."""
    return float(np.square(np.stack(measured) - np.mean(np.stack(targets))).mean())
