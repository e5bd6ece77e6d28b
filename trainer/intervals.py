"""How far chance alone moves a share of right answers."""

from math import sqrt
from typing import NamedTuple

Z = 1.959964  # two-sided 95 % of the normal distribution


class Interval(NamedTuple):
    """Both ends of a 95 % confidence interval."""

    low: float
    high: float


def wilson(right: int, number: int) -> Interval:
    """Give Wilson's score interval for a share (Wilson 1927); unlike ± 1.96 standard errors it holds near 0 and 1.

    Args:
        right: how many rows were right.
        number: of how many, at least 1.
    """
    share, z2 = right / number, Z * Z
    middle = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = Z / (1 + z2 / number) * sqrt(share * (1 - share) / number + z2 / (4 * number * number))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
