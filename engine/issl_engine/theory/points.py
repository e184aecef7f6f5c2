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
    """worst_error, mean_error, ... ; errors and accuracies are percent of the test images."""
    seed: int
    value: float


def summaries(points: list[Point]) -> dict[tuple[str, float, str], Summary]:
    """(series, x, metric) → mean and 95 % interval over the seeds, in the order of measuring."""
    values: dict[tuple[str, float, str], list[float]] = {}
    for point in points:
        values.setdefault((point.series, point.x, point.metric), []).append(point.value)
    return {key: summarise(found) for key, found in values.items()}


def series_of(points: list[Point]) -> list[str]:
    """The series in the order of measuring."""
    return list(dict.fromkeys(point.series for point in points))
