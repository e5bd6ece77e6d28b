"""Fit the polynomials of cpp/functions.h; prints their coefficients and largest errors.

    python native/tools/fit_polynomials.py

Minimax fits by Lawson's method: least squares whose weights grow where the error is largest.
"""

from collections.abc import Callable
from math import erf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.floating[Any]]
GELU_LIMIT, GELU_DEGREE = 4.0, 6  # beyond ±4 the tail that is taken off stays what it is there, 1.3e-4


def main() -> None:
    """Fit and print."""
    for name, share in (
        ("gelu", lambda x: np.array([0.5 * (1 + erf(value / sqrt(2))) for value in x])),
        ("gelu_tanh", lambda x: 0.5 * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    ):
        coefficients = fit_tail(share).astype(np.float32)
        x = np.linspace(-12, 12, 200_001)
        error = np.abs(gelu(x, coefficients) - x * share(x)).max()
        print(name, f"error {error:.1e}", coefficients.tolist())
    fraction = np.linspace(-0.5, 0.5, 4001)
    powers = np.stack([fraction**k for k in range(1, 6)], axis=1)
    coefficients = lawson(powers, 2**fraction - 1, 2**-fraction).astype(np.float32)
    error = np.abs((powers @ coefficients + 1) / 2**fraction - 1).max()
    print("exp2", f"relative error {error:.1e}", coefficients.tolist())


def fit_tail(share: Callable[[Doubles], Doubles]) -> Doubles:
    """Fit P in s · P(s) to s · (1 − Φ(s)) for s from 0 to the limit."""
    s = (1 - np.cos(np.linspace(0, np.pi, 3000)))[1:] / 2 * GELU_LIMIT
    return lawson(np.stack([s**k for k in range(GELU_DEGREE + 1)], axis=1), 1 - share(s), s)


def gelu(x: Doubles, coefficients: Doubles) -> Doubles:
    """Compute what functions.h computes."""
    s = np.minimum(np.abs(x), GELU_LIMIT)
    powers = np.stack([s**k for k in range(len(coefficients))], axis=-1)
    result: Doubles = np.maximum(x, 0) - s * (powers @ coefficients)
    return result


def lawson(powers: Doubles, target: Doubles, weight: Doubles, rounds: int = 500) -> Doubles:
    """Give the coefficients that make the largest weighted error least."""
    shares = np.ones(len(target))
    for _ in range(rounds):
        scale = np.sqrt(shares) * weight
        coefficients, *_ = np.linalg.lstsq(powers * scale[:, None], target * scale, rcond=None)
        error = np.abs((powers @ coefficients - target) * weight)
        shares = shares * error / error.max() + 1e-12
        shares /= shares.sum()
    result: Doubles = coefficients
    return result


if __name__ == "__main__":
    main()
