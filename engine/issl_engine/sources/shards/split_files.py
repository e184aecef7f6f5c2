"""Which files of a folder belong to which split, by patterns or by their names; what must hold for them."""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from issl_engine.sources.base import SourceError, listed

SPLIT_NAMES = {"train": "training", "test": "test", "pretrain": "pretraining"}
"""How messages name the splits."""
NAMED_AT_MOST = 5
TRAIN_WORDS = frozenset({"train", "training"})
VALIDATION_WORDS = frozenset({"val", "valid", "validation", "dev"})
TEST_WORDS = frozenset({"test", "testing"})
BRACES = re.compile(r"\{([^{}]*)\}")
NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
NUMBER_OF_TOTAL = re.compile(r"(?P<head>.*?)(?P<number>\d{2,})-of-(?P<total>\d{2,})(?P<tail>.*)")
"""Such as train-00000-of-01024."""


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The files of each split; ``pretrain`` is None where pretraining takes the training split. ``name`` and
    ``classes``: what the data set says of itself, if anything."""

    train: list[Path]
    test: list[Path]
    pretrain: list[Path] | None = None
    name: str | None = None
    classes: tuple[str, ...] | None = None

    @property
    def splits(self) -> dict[str, list[Path]]:
        """By name."""
        return {"train": self.train, "test": self.test, "pretrain": self.pretrain or []}


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
        lacking = listed(missing, at_most=NAMED_AT_MOST)
        raise SourceError(f"{key}: {folder} has no file {lacking}; correct the pattern or add them")
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
            names = [f"{number:0{len(total)}d}-of-{total}{tail}" for number in missing]
            raise SourceError(
                f"{head}{names[0]}: the file is missing ({len(missing)} of {int(total)} are: "
                f"{listed(names, at_most=NAMED_AT_MOST)}); add them, or name those to take in {key}"
            )


def check_files_differ(files: SplitFiles) -> None:
    """No test file, under whatever name, is used for training; no file is twice in one split."""
    seen: dict[tuple[int, int], tuple[str, Path]] = {}
    for split in ("pretrain", "train", "test"):
        for path in files.splits[split]:
            try:
                status = os.stat(path)
            except OSError as error:  # such as a link that leads nowhere
                raise SourceError(f"{path}: the file cannot be read ({error.strerror}); mend or remove it") from error
            other_split, other = seen.get((status.st_dev, status.st_ino), ("", path))
            if other_split and (split == "test" or split == other_split):
                raise SourceError(
                    f"{path}: the file is in the {SPLIT_NAMES[split]} split, but also in the "
                    f"{SPLIT_NAMES[other_split]} split, as {other}; leave it in one of them"
                )
            seen[status.st_dev, status.st_ino] = (split, path)
