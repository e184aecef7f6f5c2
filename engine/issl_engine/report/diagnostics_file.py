"""diagnostics.json of an arm: measures of its representation, what theory says of them, and spectra."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from issl_engine.report.read_json import ReportError, read_json


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """Names → numbers."""

    measures: dict[str, float]
    optimum: dict[str, float]
    """What theory says that a measure is at the optimum, where it says something."""
    spectra: dict[str, list[float]]
    """Of the representation and of each head: singular values, falling, their sum 1."""


def read_diagnostics(path: Path) -> Diagnostics | None:
    """None where there is no such file. Raises ReportError where it is damaged."""
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        return Diagnostics(
            measures=_numbers(content["measures"]),
            optimum=_numbers(content.get("optimum", {})),
            spectra={name: [float(value) for value in values] for name, values in content.get("spectra", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(f"{path}: these are no diagnostics ({error!r}); delete the file, and run again") from error


def _numbers(content: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in content.items() if value is not None}
