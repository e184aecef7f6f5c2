"""kernels.csv: one line for each operation, case, dtype, pass and provider. Runs are added at its end."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from issl_engine.mistakes import Mistake
from issl_profiling.data.results_file import append_lines


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of kernels.csv. None where a value was not measured; floors and rates are of the least work."""

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
    device: str
    torch: str
    triton: str
    commit: str
    date: str
    command: str


COLUMNS = tuple(field.name.rstrip("_") for field in fields(Row))
_NUMBERS = ("median_ms", "p20_ms", "p80_ms", "peak_mib", "tflops", "gb_s", "floor_ms", "ratio_to_floor")


def as_record(row: Row) -> dict[str, Any]:
    """Column → value; numbers to six digits."""
    record = {name: getattr(row, field.name) for name, field in zip(COLUMNS, fields(Row), strict=True)}
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in record.items()}


def check_results_file(path: Path) -> None:
    """Raises ValueError if rows cannot be added to ``path``, so that this is told before anything is timed."""
    if path.is_dir():
        raise Mistake(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise Mistake(f"there is no folder {path.parent} for {path.name}")
    if path.exists() and path.stat().st_size > 0:
        _check_header(path)


def append_rows(path: Path, rows: list[Row]) -> None:
    """Adds the rows, under a header if the file is new or empty. Raises ValueError if it has another header."""
    check_results_file(path)
    append_lines(path, COLUMNS, [as_record(row) for row in rows])


def read_rows(path: Path) -> list[Row]:
    """All rows. Raises ValueError if the file is missing, has another header or no row."""
    if not path.is_file():
        raise Mistake(f"there is no file {path}; issl-engine bench kernels --out {path} makes it")
    _check_header(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = [_row(path, number, record) for number, record in enumerate(csv.DictReader(file), start=2)]
    if not rows:
        raise Mistake(f"{path} has no results; issl-engine bench kernels --out {path} adds some")
    return rows


def _check_header(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        header = next(csv.reader(file), [])
    if tuple(header) != COLUMNS:
        raise Mistake(
            f"{path} has the columns {', '.join(header) or '(none)'}, not {', '.join(COLUMNS)}: name another file"
        )


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
