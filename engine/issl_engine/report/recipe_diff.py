"""Which keys of the recipe set the arms apart."""

from collections.abc import Iterator
from typing import Any

from issl_engine.report.run_folder import Run

ABSENT = "–"


def differing_keys(run: Run) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """(names of the arms whose recipe is known, (dotted key, its value in each arm) for every key that differs)."""
    configs = {}
    for arm in run.arms:
        found = next((seed.config for seed in arm.seeds if seed.config is not None), None)
        if found is not None:
            configs[arm.name] = dict(_flat(found))
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    rows = [(key, [config.get(key, ABSENT) for config in configs.values()]) for key in keys]
    return list(configs), [(key, values) for key, values in rows if len(set(values)) > 1]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys down to plain values and lists of plain values."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{index}")
    else:
        yield path, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
