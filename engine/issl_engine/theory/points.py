"""The points that experiments measure, and their means over seeds."""

from dataclasses import dataclass

from issl_engine.report.statistics import Summary, summarise


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured value."""

    series: str
    """What was measured: an objective, or a representation made by hand."""
    x: float
    """The value on the experiment's axis."""
    metric: str
    """worst_error, mean_error, ... ; unit_of says in which unit."""
    seed: int
    value: float


UNITS = {"cosine": "", "correlation": "", "probe_gap": "nats", "probe_gradient": "nats", "loss": "nats", "tasks": ""}
"""How a metric's name begins → its unit; all others are percent of the test images."""


def unit_of(metric: str) -> str:
    """The unit of a metric's values; empty for plain numbers."""
    return next((unit for start, unit in UNITS.items() if metric.startswith(start)), "percent")


def summaries(points: list[Point]) -> dict[tuple[str, float, str], Summary]:
    """(series, x, metric) → mean and 95 % interval over the seeds, in the order of measuring."""
    values: dict[tuple[str, float, str], list[float]] = {}
    for point in points:
        values.setdefault((point.series, point.x, point.metric), []).append(point.value)
    return {key: summarise(found) for key, found in values.items()}


def largest(points: list[Point]) -> dict[tuple[str, float, str], float]:
    """(series, x, metric) → the largest value over the seeds."""
    found: dict[tuple[str, float, str], float] = {}
    for point in points:
        key = (point.series, point.x, point.metric)
        found[key] = max(found.get(key, point.value), point.value)
    return found


def series_of(points: list[Point]) -> list[str]:
    """The series in the order of measuring."""
    return list(dict.fromkeys(point.series for point in points))
