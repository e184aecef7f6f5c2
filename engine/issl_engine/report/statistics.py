"""Mean and 95 % interval over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from issl_engine.probing.judging.student_t import half_width


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A mean and how sure it is."""

    mean: float
    half_width: float | None
    """Half of the 95 % t-interval of the mean, None for a single value."""
    count: int
    interval: tuple[float, float] | None = None
    """Ends of the 95 % bootstrap interval over the judged images, where there is one value and one was made."""

    @property
    def ends(self) -> tuple[float, float] | None:
        """Of whichever interval there is."""
        if self.half_width is None:
            return self.interval
        return self.mean - self.half_width, self.mean + self.half_width

    def text(self, digits: int) -> str:
        """With so many digits behind the point."""
        if self.half_width is not None:
            return f"{self.mean:.{digits}f} ± {self.half_width:.{digits}f}"
        if self.interval is not None:
            return f"{self.mean:.{digits}f} [{self.interval[0]:.{digits}f}, {self.interval[1]:.{digits}f}]"
        return f"{self.mean:.{digits}f}"

    def __str__(self) -> str:
        return self.text(1)


def summarise(values: Sequence[float]) -> Summary:
    """Of at least one value."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return Summary(mean=mean, half_width=None, count=1)
    return Summary(mean=mean, half_width=half_width(values), count=count)
