"""Is the difference between two ways to answer the same rows more than chance? (How far it moves a share: trainer/intervals.py.)"""

from math import comb


def mcnemar(lost: int, gained: int) -> float:
    """Give the p-value of McNemar's exact test: how likely a split at least as uneven is if neither way to answer is better.

    Args:
        lost: rows that the reference answers right and the other wrong.
        gained: rows that the reference answers wrong and the other right.
    """
    number = lost + gained
    tail = sum(comb(number, count) for count in range(min(lost, gained) + 1))
    return min(1.0, 2 * tail / (1 << number))
