"""Mean and 95 % interval over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from issl_engine.probing.judging.metric_limits import Limits, cut
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
    limits: Limits | None = None
    """Of what is summarised; the t-interval is cut there."""

    @property
    def ends(self) -> tuple[float, float] | None:
        """Of whichever interval there is."""
        if self.half_width is None:
            return self.interval
        return cut(self._uncut(self.half_width), self.limits)

    def text(self, digits: int, *, signed: bool = False) -> str:
        """With so many digits behind the point: mean ± half the interval, or its ends where it was cut or is a
        bootstrap's."""
        sign, ends = "+" if signed else "", self.ends
        mean = f"{self.mean:{sign}.{digits}f}"
        if ends is None:
            return mean
        if self.half_width is not None and ends == self._uncut(self.half_width):
            return f"{mean} ± {self.half_width:.{digits}f}"
        return f"{mean} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"

    def __str__(self) -> str:
        return self.text(1)

    def _uncut(self, half: float) -> tuple[float, float]:
        return self.mean - half, self.mean + half


def summarise(values: Sequence[float], limits: Limits | None = None) -> Summary:
    """Of at least one value, which lies within ``limits``."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return Summary(mean=mean, half_width=None, count=1)
    return Summary(mean=mean, half_width=half_width(values), count=count, limits=limits)
