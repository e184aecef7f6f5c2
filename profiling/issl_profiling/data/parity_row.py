"""parity.csv: one line for each comparison of the loader with torchvision."""

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from issl_profiling.data.results_file import check_results_file

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


VERSIONS = ("torchvision", "pillow", "torch", "dali")
ORIGIN = ("device", "commit", "date", "command")
COLUMNS = (*(field.name for field in fields(Deviation)), "verdict", *VERSIONS, *ORIGIN)


def as_record(deviation: Deviation, origin: dict[str, Any]) -> dict[str, Any]:
    """Column → value; numbers to four digits."""
    record = asdict(deviation) | {"verdict": deviation.verdict} | origin
    record = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in record.items()}
    return {name: record[name] for name in COLUMNS}


def check_records_file(path: Path) -> None:
    """Raises ValueError if the records cannot be written to ``path``, so that this is told before anything is run."""
    check_results_file(path, COLUMNS, "parity's results")


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Writes the whole file anew: one run is one state of the loader."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(records)
