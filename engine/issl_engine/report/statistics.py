"""Mean and 95 % interval over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from issl_engine.probing.student_t import half_width


@dataclass(frozen=True, kw_only=True)
class Summary:
    """``half_width``: half of the 95 % t-interval of the mean, None for a single value."""

    mean: float
    half_width: float | None
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.half_width is None else f"{self.mean:.1f} ± {self.half_width:.1f}"


def summarise(values: Sequence[float]) -> Summary:
    """Of at least one value."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return Summary(mean=mean, half_width=None, count=1)
    return Summary(mean=mean, half_width=half_width(values), count=count)
