"""Run folders below some folders."""

import os
from pathlib import Path

from issl_engine.layout import RECORD
from issl_engine.report.read_json import ReportError

DEEPEST = 6
"""Levels below a named folder that are searched."""


def find_runs(roots: list[Path]) -> list[Path]:
    """Every run folder at or below ``roots``, sorted. Links are not followed, and nothing is looked for inside a run.

    Raises ReportError for a root that is no folder.
    """
    found: set[Path] = set()
    for root in roots:
        if not root.is_dir():
            raise ReportError(f"{root}: there is no such folder; name a run folder, or one that holds run folders")
        found |= set(_below(root.resolve(), DEEPEST))
    return sorted(found)


def _below(folder: Path, levels: int) -> list[Path]:
    if (folder / RECORD).is_file():
        return [folder]
    if levels == 0:
        return []
    try:
        inner = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []  # not ours to read
    return [run for path in inner if not Path(path).name.startswith(".") for run in _below(Path(path), levels - 1)]
