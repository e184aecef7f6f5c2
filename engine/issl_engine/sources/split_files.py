"""Which files of a folder belong to which split: by patterns, or by their names."""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from issl_engine.sources.base import SourceError

NAMED_AT_MOST = 5
TRAIN_WORDS = frozenset({"train", "training"})
VALIDATION_WORDS = frozenset({"val", "valid", "validation", "dev"})
TEST_WORDS = frozenset({"test", "testing"})
BRACES = re.compile(r"\{([^{}]*)\}")
NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
NUMBER_OF_TOTAL = re.compile(r"(?P<head>.*?)(?P<number>\d{2,})-of-(?P<total>\d{2,})(?P<tail>.*)")
"""Such as train-00000-of-01024."""


def files_of_pattern(folder: Path, pattern: str, key: str) -> list[Path]:
    """Files in ``folder`` that match a pattern of *, ?, [ab], **, {a,b} and {000..146}; sorted. What braces spell out
    must be there. Raises SourceError that names ``key``."""
    found: dict[Path, None] = {}
    missing = []
    for name in _without_braces(pattern):
        place = os.path.join(glob.escape(str(folder.absolute())), name)
        matches = [path for path in sorted(glob.glob(place, recursive=True)) if os.path.isfile(path)]
        found.update(dict.fromkeys(map(Path, matches)))
        if not matches:
            missing.append(name)
    if missing:
        more = f" and {len(missing) - NAMED_AT_MOST} more" if len(missing) > NAMED_AT_MOST else ""
        raise SourceError(
            f"{key}: {folder} has no file {', '.join(missing[:NAMED_AT_MOST])}{more}; correct the pattern or add them"
        )
    return list(found)


def _without_braces(pattern: str) -> Iterator[str]:
    braces = BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    head, inner, tail = pattern[: braces.start()], braces[1], pattern[braces.end() :]
    numbers = NUMBERS.fullmatch(inner)
    if numbers is None:
        choices = inner.split(",")
    else:
        first, last = numbers[1], numbers[2]
        choices = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    for choice in choices:
        yield from _without_braces(head + choice + tail)


def files_by_name(folder: Path, is_file: Callable[[str], bool]) -> tuple[list[Path], list[Path]]:
    """(training files, test files) at any depth: those with such a word in their name, or else in a folder's name.

    Where some are for validation, those are the test files.
    """
    splits: defaultdict[str, list[Path]] = defaultdict(list)
    for path in _files_below(folder.absolute(), is_file):
        splits[_split_of(path.relative_to(folder.absolute()))].append(path)
    return splits["train"], splits["validation"] or splits["test"]


def _files_below(folder: Path, is_file: Callable[[str], bool]) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        found += [Path(place, name) for name in names if name[0] != "." and is_file(name)]
    return sorted(found)


def _split_of(path: Path) -> str:
    for part in reversed(path.parts):
        words = set(re.split(r"[^a-z]+", part.lower()))
        for split, known in (("train", TRAIN_WORDS), ("validation", VALIDATION_WORDS), ("test", TEST_WORDS)):
            if words & known:
                return split
    return ""


def check_complete(paths: list[Path], key: str) -> None:
    """Raises SourceError, which offers ``key``, where files numbered 00000-of-00010 lack some."""
    sets: defaultdict[tuple[str, str, str], set[int]] = defaultdict(set)
    for path in paths:
        if match := NUMBER_OF_TOTAL.fullmatch(path.name):
            sets[str(path.parent / match["head"]), match["total"], match["tail"]].add(int(match["number"]))
    for (head, total, tail), there in sets.items():
        missing = sorted(set(range(int(total))) - there)
        if missing:
            names = [f"{number:0{len(total)}d}-of-{total}{tail}" for number in missing[:NAMED_AT_MOST]]
            more = f" and {len(missing) - NAMED_AT_MOST} more" if len(missing) > NAMED_AT_MOST else ""
            raise SourceError(
                f"{head}{names[0]}: the file is missing ({len(missing)} of {int(total)} are: "
                f"{', '.join(names)}{more}); add them, or name those to take in {key}"
            )
