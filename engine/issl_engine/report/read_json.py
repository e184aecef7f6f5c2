"""JSON files of a run folder, and what is wrong with a run folder."""

import json
import logging
from pathlib import Path
from typing import Any

from issl_engine.mistakes import Mistake

_log = logging.getLogger("issl_engine")


class ReportError(Mistake):
    """A folder that is no run, or a damaged file in it: one sentence."""


def read_json(path: Path) -> Any:
    """Raises ReportError where the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: the file is damaged ({error}); run the recipe again to write it anew") from error


def read_lines(path: Path) -> list[dict[str, float]]:
    """The records of a file with one a line; nothing of a file that is not there, or of a half last line.

    Raises ReportError where a line is damaged.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:  # no JSON, or not in UTF-8
            if number == len(lines):
                _log.info("%s: its last line is half written and is left out", path)
                break
            raise ReportError(f"{path}:{number}: the line is damaged ({error}); delete the line") from error
        if not isinstance(record, dict):
            raise ReportError(f"{path}:{number}: the line is damaged (it is no record of a step); delete the line")
        records.append(record)
    return records
