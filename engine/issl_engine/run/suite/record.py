"""What of a suite is done: each part's results under all that they depend on, so that a part is done once."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from issl_engine.probing.judging.results import results_from_json, results_to_json
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.whole_file import write_whole

_log = logging.getLogger("issl_engine")

FILE = "suite.json"
FORMAT = 1
"""Raise it whenever a part would give other results than before."""


class SuiteRecord:
    """The file suite.json of a folder, written after each part; with ``folder`` None nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE
        self._parts: dict[str, Any] = {} if self._path is None else _read(self._path)

    def find(self, part: str, key: dict[str, Any]) -> list[ProbeResult] | None:
        """The part's results, or None where it was not done, or with another key."""
        entry = self._parts.get(part)
        if not isinstance(entry, dict) or entry.get("key") != _digest(key):
            return None
        try:
            return results_from_json(entry["results"])
        except (TypeError, KeyError, AttributeError):
            _log.warning("%s: what it says of '%s' is damaged, and is made anew", self._path, part)
            return None

    def keep(self, part: str, key: dict[str, Any], results: list[ProbeResult]) -> None:
        """Raises OSError."""
        self._parts[part] = {"key": _digest(key), "results": results_to_json(results)}
        if self._path is not None:
            write_whole(self._path, json.dumps({"format": FORMAT, "parts": self._parts}, indent=1) + "\n")


def _digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        content = None
    if isinstance(content, dict) and content.get("format") != FORMAT:
        return {}
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, dict):
        _log.warning("%s: the file is damaged, and is made anew", path)
        return {}
    return parts
