"""The values that a metric can take: no interval reaches beyond them.

An interval is cut there. Student's t does not know of limits, but the mean that the interval is to cover lies within
them, so what is cut away never covered it: as many intervals hold the mean as before.
"""

PERCENT = frozenset({"top1", "top5", "mean_per_class", "mean_average_precision", "average_precision"})
"""Metrics in percent."""

Limits = tuple[float, float]


def limits_of(metric: str) -> Limits | None:
    """None where there are none on both sides."""
    return (0.0, 100.0) if metric in PERCENT else None


def cut(ends: tuple[float, float], limits: Limits | None) -> tuple[float, float]:
    """What of the interval lies within the limits."""
    if limits is None:
        return ends
    low, high = limits
    return min(max(ends[0], low), high), min(max(ends[1], low), high)
