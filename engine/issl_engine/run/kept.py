"""The one rule of what is done: a result is kept with all that it depends on, and made anew where that has changed.

FOLDER/kept.json says of each result in FOLDER what it was made of, and the SHA-256 of its file. So a result that is
damaged, or was made of something else, is made anew, and the log says why. The old file stays until its successor is
whole.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from issl_engine.probing.judging.results import results_from_json, results_to_json
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.whole_file import write_whole

_log = logging.getLogger("issl_engine")

LEDGER = "kept.json"
FORMAT = 1

Key = Mapping[str, Any]
"""All that a result depends on; JSON-able."""


class Kept:
    """The results of one folder, which is made when the first is written. Without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._noted = {} if folder is None else _read(folder / LEDGER)

    def file(self, name: str, key: Key, make: Callable[[Path], None]) -> Path:
        """The file ``name``, which ``make`` writes to the path that it is given, unless it is there and was made of the
        same. Raises OSError, and what ``make`` raises."""
        assert self._folder is not None
        path, made_of = self._folder / name, _plain(key)
        if self._is_done(path, name, made_of):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        self._noted[name] = {"made_of": made_of, "sha256": _sha256(path)}
        self._write()
        return path

    def json(self, name: str, key: Key, make: Callable[[], Any]) -> Any:
        """The content of the file ``name``, which ``make`` gives; kept as ``file`` says."""
        if self._folder is None:
            return make()
        return json.loads(self.file(name, key, lambda path: write_json(path, make())).read_bytes())

    def results(self, name: str, key: Key, make: Callable[[], list[ProbeResult]]) -> list[ProbeResult]:
        """The results of probes, which ``make`` gives; kept as ``file`` says."""
        return results_from_json(self.json(name, key, lambda: results_to_json(make())))

    def made_of(self, name: str) -> dict[str, Any] | None:
        """What the result was made of; None where there is none."""
        noted = self._noted.get(name)
        found = noted.get("made_of") if isinstance(noted, dict) else None
        return found if isinstance(found, dict) else None

    def drop(self, name: str) -> None:
        """Removes a result that is not wanted any more."""
        if self._folder is not None and self._noted.pop(name, None) is not None:
            self._write()
            (self._folder / name).unlink(missing_ok=True)

    def _is_done(self, path: Path, name: str, made_of: Any) -> bool:
        noted = self._noted.get(name)
        if not isinstance(noted, dict) or not path.is_file():
            if path.is_file():
                _log.info("%s: nothing says what it was made of, so it is made anew", path)
            return False
        difference = first_difference(noted.get("made_of"), made_of)
        if difference is not None:
            _log.info("%s: %s, so it is made anew", path, difference)
            return False
        if noted.get("sha256") != _sha256(path):
            _log.warning("%s: the file is damaged, and is made anew", path)
            return False
        return True

    def _write(self) -> None:
        assert self._folder is not None
        write_json(self._folder / LEDGER, {"format": FORMAT, "results": self._noted})


def write_json(path: Path, value: Any) -> None:
    """Writes the whole file or leaves the one that is there. Raises OSError."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def first_difference(before: Any, now: Any, path: str = "") -> str | None:
    """Names the first key at which two JSON values differ, with both; None where they are equal."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            found = first_difference(before.get(key), now.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return None
    return None if before == now else f"{path} is {json.dumps(before)} there and {json.dumps(now)} here"


def digest_of(key: Key) -> str:
    """Eight hexadecimal digits that name what a result depends on."""
    return hashlib.sha256(json.dumps(_plain(key), sort_keys=True).encode()).hexdigest()[:8]


def _plain(key: Key) -> Any:
    """As JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(dict(key)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """Result's name → what is noted of it; nothing where the file is missing, damaged or of another version."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        content = None
    if isinstance(content, dict) and content.get("format") == FORMAT and isinstance(content.get("results"), dict):
        return dict(content["results"])
    _log.warning("%s: the file is damaged or of another version, and is made anew", path)
    return {}
