"""Fit the polynomials of cpp/functions.h; prints their coefficients and largest errors.

    python native/tools/fit_polynomials.py

Minimax fits by Lawson's method: least squares whose weights grow where the error is largest.
"""

from collections.abc import Callable
from math import erf, sqrt

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
GELU_LIMIT, GELU_TERMS = 4.4, 9  # beyond ±4.4 the function is x or 0, within 2.4e-5


def main() -> None:
    """Fit and print."""
    normal = np.vectorize(lambda x: 0.5 * (1 + erf(x / sqrt(2))))
    for name, share in (
        ("gelu", normal),
        ("gelu_tanh", lambda x: 0.5 * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    ):
        coefficients = fit_gelu(share)
        x = np.linspace(-12, 12, 200_001)
        error = np.abs(gelu(x, coefficients) - x * share(x)).max()
        print(name, f"error {error:.1e}", [float(np.float32(c)) for c in coefficients])
    fraction = np.linspace(-0.5, 0.5, 4001)
    powers = np.stack([fraction**k for k in range(1, 6)], axis=1)
    coefficients = lawson(powers, 2**fraction - 1, 2**-fraction)
    error = np.abs((powers @ coefficients + 1) / 2**fraction - 1).max()
    print("exp2", f"relative error {error:.1e}", [float(np.float32(c)) for c in coefficients])


def fit_gelu(share: Callable[[Doubles], Doubles]) -> Doubles:
    """Fit P in x · (½ + u · P((u / limit)²)) with u = x kept within ±limit, such that u · P is ½ at the limit."""
    x = np.cos(np.linspace(0, np.pi / 2, 4000))[:-1] * GELU_LIMIT
    t = (x / GELU_LIMIT) ** 2
    target = (share(x) - 0.5) / x - 0.5 / GELU_LIMIT
    quotient = lawson(np.stack([(t - 1) * t**k for k in range(GELU_TERMS - 1)], axis=1), target, x**2)
    coefficients = np.append(0.0, quotient) - np.append(quotient, 0.0)
    coefficients[0] += 0.5 / GELU_LIMIT
    return coefficients


def gelu(x: Doubles, coefficients: Doubles) -> Doubles:
    """Compute what functions.h computes."""
    u = np.clip(x, -GELU_LIMIT, GELU_LIMIT)
    result: Doubles = x * (0.5 + u * np.polynomial.polynomial.polyval((u / GELU_LIMIT) ** 2, coefficients))
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
