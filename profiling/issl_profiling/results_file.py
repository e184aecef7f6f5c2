"""CSV files of results: whether one can be written is reported before anything is measured; each line says what made
it (command, machine, versions, commit, date).
"""

import csv
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from issl_engine.environment import collect_environment, device_summary, version
from issl_engine.mistakes import Mistake

MADE_BY = ("device", "torch", "dali", "torchvision", "commit", "date", "command")
"""Columns that end a line of most files."""


@dataclass(frozen=True, kw_only=True)
class ResultsFile:
    """A kind of file: its ``columns``, and ``holds``, what its lines are called in a message."""

    columns: tuple[str, ...]
    holds: str

    def check_can_add(self, path: Path) -> None:
        """Raises Mistake if lines cannot be added to ``path``: its folder is missing, or it is another kind of file."""
        check_can_write(path)
        if path.exists() and path.stat().st_size:
            self.check_columns(path)

    def check_columns(self, path: Path) -> None:
        """Raises Mistake if the file has other columns."""
        with path.open(newline="", encoding="utf-8") as file:
            found = tuple(next(csv.reader(file), []))
        if found != self.columns:
            raise Mistake(
                f"{path} holds something else than {self.holds}: it has the columns {', '.join(found) or '(none)'}, "
                f"not {', '.join(self.columns)}; name another file"
            )

    def add(self, path: Path, measured: Sequence[dict[str, Any]], made_by: dict[str, Any]) -> list[dict[str, Any]]:
        """Adds a line for each record, under a header where the file is new or empty, and returns the lines.

        Columns that a record lacks come from ``made_by``. Raises Mistake as ``check_can_add`` does.
        """
        self.check_can_add(path)
        return self._write(path, "a", measured, made_by)

    def replace(self, path: Path, measured: Sequence[dict[str, Any]], made_by: dict[str, Any]) -> list[dict[str, Any]]:
        """As ``add``, but the file then holds these lines alone."""
        check_can_write(path)
        return self._write(path, "w", measured, made_by)

    def _write(
        self, path: Path, mode: str, measured: Sequence[dict[str, Any]], made_by: dict[str, Any]
    ) -> list[dict[str, Any]]:
        assert all(record.keys() <= set(self.columns) for record in measured)
        lines = [{column: (made_by | record)[column] for column in self.columns} for record in measured]
        with path.open(mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=self.columns)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(lines)
        return lines


def check_can_write(path: Path) -> None:
    """Raises Mistake if ``path`` is a folder, or lies in none."""
    if path.is_dir():
        raise Mistake(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise Mistake(f"there is no folder {path.parent} for {path.name}; make it, or name another file")


def this_command() -> str:
    """The command line that runs now, as one would type it."""
    return shlex.join(["issl-engine", *sys.argv[1:]])


def made_by_this_run() -> dict[str, Any]:
    """Column → value of what makes a line now: the machine, versions (empty where missing), commit, date, command."""
    environment = collect_environment()
    return {
        "device": device_summary(environment), "torch": environment["torch"], "dali": environment["dali"] or "",
        "torchvision": version("torchvision") or "", "triton": environment["triton"] or "",
        "pillow": version("pillow") or "", "commit": environment["commit"] or "", "date": environment["date"],
        "command": this_command(),
    }  # fmt: skip


def significant(value: float, digits: int = 4) -> float:
    """``value`` with so many significant digits, as files hold it."""
    return float(f"{value:.{digits}g}")
