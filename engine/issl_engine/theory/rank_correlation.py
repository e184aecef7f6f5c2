"""Spearman's rank correlation of few values, and its jackknife over seeds."""

from collections.abc import Sequence


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Correlation of the ranks of at least two pairs, equal values sharing their mean rank; 0 where one side is
    constant."""
    a, b = _ranks(first), _ranks(second)
    mean = (len(a) - 1) / 2
    covariance = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    squares = sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b)
    return float(covariance / squares**0.5) if squares > 0 else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    """From 0; of equal values the mean of theirs."""
    return [sum(other < value for other in values) + (values.count(value) - 1) / 2 for value in values]


def jackknife(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    """Pseudo-values n r - (n - 1) r_without_i of the rank correlation r, whose t-interval is the jackknife's (Tukey
    1958). With fewer than four pairs, r alone."""
    count = len(first)
    whole = spearman(first, second)
    if count < 4:
        return (whole,)
    without = [spearman([*first[:i], *first[i + 1 :]], [*second[:i], *second[i + 1 :]]) for i in range(count)]
    return tuple(count * whole - (count - 1) * one for one in without)
