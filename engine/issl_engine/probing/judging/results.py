"""Probe results as JSON, for run folders and programs."""

from dataclasses import asdict, replace
from numbers import Real
from typing import Any

from issl_engine.probing.probes.base import ProbeResult

NUMBERS = {"value", "num_train_images", "num_split_images", "seed"}
"""Fields that are always a number."""


def results_to_json(results: list[ProbeResult]) -> list[dict[str, Any]]:
    """Plain dicts with ProbeResult's fields."""
    return [_record(result) for result in results]


def results_from_json(records: Any) -> list[ProbeResult]:
    """The inverse of results_to_json. Raises TypeError, and nothing else, for what results_to_json does not make."""
    if not isinstance(records, list):
        raise TypeError(f"a list of results is needed, not {type(records).__name__}")
    return [_result(record) for record in records]


def _record(result: ProbeResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(replace(result, right_N=None)).items() if name != "right_N"}


def _result(record: Any) -> ProbeResult:
    if not isinstance(record, dict):
        raise TypeError(f"a result is a mapping of fields, not {type(record).__name__}")
    for name in NUMBERS & record.keys():
        if not isinstance(record[name], Real) or isinstance(record[name], bool):
            raise TypeError(f"a result's {name} is a number, not {record[name]!r}")
    interval = record.get("interval")
    tuples = {"interval": None if interval is None else tuple(interval), "draws": tuple(record.get("draws", ()))}
    return ProbeResult(**(record | tuples))
