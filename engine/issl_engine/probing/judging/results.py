"""Probe results as JSON, for run folders and programs."""

from dataclasses import asdict
from typing import Any

from issl_engine.probing.probes.base import ProbeResult


def results_to_json(results: list[ProbeResult]) -> list[dict[str, Any]]:
    """Plain dicts with ProbeResult's fields."""
    return [asdict(result) for result in results]


def results_from_json(records: list[dict[str, Any]]) -> list[ProbeResult]:
    """The inverse of results_to_json. Raises TypeError for other fields."""
    return [_result(record) for record in records]


def _result(record: dict[str, Any]) -> ProbeResult:
    interval = record.get("interval")
    tuples = {"interval": None if interval is None else tuple(interval), "draws": tuple(record.get("draws", ()))}
    return ProbeResult(**(record | tuples))
