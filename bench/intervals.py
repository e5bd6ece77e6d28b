"""Is the difference between two ways to answer the same rows more than chance? (How far it moves a share: trainer/intervals.py.)"""

from collections.abc import Sequence
from math import comb, sqrt
from statistics import mean, stdev

from trainer.intervals import Interval


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
