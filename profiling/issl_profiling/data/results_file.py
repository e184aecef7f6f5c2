"""CSV files of results: whether one can be written is told before anything is measured, and what made its lines."""

import csv
from pathlib import Path
from typing import Any

from issl_engine.environment import collect_environment, device_summary, version
from issl_engine.mistakes import Mistake


def check_results_file(path: Path, columns: tuple[str, ...] | None, what: str) -> None:
    """Raises ValueError if ``path`` cannot be written, or holds something else than ``columns``, those of ``what``;
    with None whatever it holds may be replaced."""
    if path.is_dir():
        raise Mistake(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise Mistake(f"there is no folder {path.parent} for {path.name}; make it, or name another file")
    if columns is not None and path.exists() and path.stat().st_size:
        with path.open(newline="", encoding="utf-8") as file:
            if tuple(next(csv.reader(file), [])) != columns:
                raise Mistake(f"{path} holds something else than {what}; name another file")


def append_lines(path: Path, columns: tuple[str, ...], lines: list[dict[str, Any]]) -> None:
    """Adds the lines, under a header where the file is new or empty."""
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(lines)


def origin(command: str) -> dict[str, Any]:
    """Machine, versions, commit, date and command."""
    environment = collect_environment()
    return {
        "device": device_summary(environment), "torch": environment["torch"], "dali": environment["dali"] or "",
        "torchvision": version("torchvision") or "", "commit": environment["commit"] or "",
        "date": environment["date"], "command": command,
    }  # fmt: skip
