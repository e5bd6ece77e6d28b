"""How far chance alone moves a share of right answers, and a difference between two ways to answer the same rows."""

from collections.abc import Sequence
from math import comb, sqrt
from statistics import mean, stdev
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


def mcnemar(lost: int, gained: int) -> float:
    """Give the p-value of McNemar's exact test: how likely a split at least as uneven is if neither way to answer is better.

    Args:
        lost: rows that the reference answers right and the other wrong.
        gained: rows that the reference answers wrong and the other right.
    """
    number = lost + gained
    tail = sum(comb(number, count) for count in range(min(lost, gained) + 1))
    return min(1.0, 2 * tail / (1 << number))


def student(differences: Sequence[float]) -> Interval:
    """Give the 95 % confidence interval of the mean of some differences (Student 1908).

    Args:
        differences: at least two, of pairs that chance moves alike.
    """
    from scipy.stats import t

    middle, number = mean(differences), len(differences)
    half = float(t.ppf(0.975, number - 1)) * stdev(differences) / sqrt(number)
    return Interval(middle - half, middle + half)
