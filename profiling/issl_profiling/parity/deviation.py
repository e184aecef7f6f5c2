"""What one comparison with torchvision found, and its line of parity.csv."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from issl_profiling.results_file import ResultsFile, significant

GREY_LEVELS = "grey levels"
"""Mean of the absolute difference of crops."""
KS_DISTANCE = "KS distance"
"""Greatest distance of two distribution functions (Kolmogorov and Smirnov)."""
SHARE = "share"
"""Absolute difference of how often something happens."""
WITHIN, BEYOND = "within", "beyond"


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far one operator, or one random number, is from torchvision's.

    ``value``, in what ``measure`` names, may be ``allowed``. The 99th percentile and the maximum are in grey levels,
    over all channels of all pixels; None for random numbers.
    """

    operator: str
    parameters: str
    compared: str
    measure: str
    value: float
    p99: float | None = None
    max: float | None = None
    allowed: float

    @property
    def verdict(self) -> str:
        return WITHIN if self.value <= self.allowed else BEYOND


COLUMNS = (
    *(field.name for field in fields(Deviation)), "verdict", "torchvision", "pillow", "torch", "dali", "device",
    "commit", "date", "command",
)  # fmt: skip
PARITY_FILE = ResultsFile(columns=COLUMNS, holds="parity's results")
"""One run is one state of the loader: the file is written anew."""


def as_record(deviation: Deviation) -> dict[str, Any]:
    """Column → value; numbers to four digits."""
    record = asdict(deviation) | {"verdict": deviation.verdict}
    return {name: significant(value) if isinstance(value, float) else value for name, value in record.items()}
