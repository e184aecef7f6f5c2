"""Mean and 95 % interval over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % quantiles of Student's t for 1 to 30 degrees of freedom; from 31 on the normal's 1.96 is within 4 %."""


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
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    quantile = T_975[count - 2] if count - 2 < len(T_975) else 1.96
    return Summary(mean=mean, half_width=quantile * deviation / math.sqrt(count), count=count)
