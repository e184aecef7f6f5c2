"""kernels.csv: one line for each operation, case, dtype, pass and provider. Runs are added at its end."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from issl_engine.mistakes import Mistake
from issl_profiling.results_file import ResultsFile, significant


@dataclass(frozen=True, kw_only=True)
class PassTime:
    """One pass of one provider. None where a value was not measured; floors and rates are of the least work."""

    op: str
    case: str
    size: str
    dtype: str
    pass_: str
    """fwd, bwd or both; ``pass`` in the file."""
    provider: str
    median_ms: float
    p20_ms: float
    p80_ms: float
    peak_mib: float | None
    """Above the inputs."""
    tflops: float
    gb_s: float
    floor_ms: float | None
    ratio_to_floor: float | None


@dataclass(frozen=True, kw_only=True)
class Row(PassTime):
    """A line of the file: the time of a pass, and what made it."""

    device: str
    torch: str
    triton: str
    commit: str
    date: str
    command: str


COLUMNS = tuple(field.name.rstrip("_") for field in fields(Row))
KERNELS_FILE = ResultsFile(columns=COLUMNS, holds="bench kernels' lines")
_NUMBERS = ("median_ms", "p20_ms", "p80_ms", "peak_mib", "tflops", "gb_s", "floor_ms", "ratio_to_floor")


def as_record(time: PassTime) -> dict[str, Any]:
    """Column → value; numbers to six digits."""
    record = {field.name.rstrip("_"): getattr(time, field.name) for field in fields(time)}
    return {name: significant(value, 6) if isinstance(value, float) else value for name, value in record.items()}


def add_times(path: Path, times: Sequence[PassTime], made_by: dict[str, Any]) -> list[dict[str, Any]]:
    """Adds a line for each and returns the lines. Raises Mistake if the file has other columns."""
    return KERNELS_FILE.add(path, [as_record(time) for time in times], made_by)


def read_rows(path: Path) -> list[Row]:
    """All lines. Raises Mistake if the file is missing, has other columns or no line."""
    if not path.is_file():
        raise Mistake(f"there is no file {path}; issl-engine bench kernels --out {path} makes it")
    KERNELS_FILE.check_columns(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = [_row(path, number, record) for number, record in enumerate(csv.DictReader(file), start=2)]
    if not rows:
        raise Mistake(f"{path} has no results; issl-engine bench kernels --out {path} adds some")
    return rows


def _row(path: Path, line: int, record: dict[str, str]) -> Row:
    try:
        values: dict[str, Any] = {name: _value(name, record[name]) for name in COLUMNS}
        return Row(pass_=values.pop("pass"), **values)
    except (TypeError, ValueError) as error:
        raise Mistake(f"{path}: line {line} is not a line of results ({error})") from error


def _value(name: str, text: str) -> str | float | None:
    if name not in _NUMBERS:
        return text
    return None if text == "" else float(text)
