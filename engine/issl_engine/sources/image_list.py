"""Images whose splits are text files that list them, as Food-101, DTD, FGVC-Aircraft and Oxford-IIIT Pets have theirs.

A line is the name of an image, and perhaps more behind a blank:

- Food-101, meta/train.txt:                    apple_pie/1005649
- DTD, labels/train1.txt:                      banded/banded_0002.jpg
- FGVC-Aircraft, images_variant_trainval.txt:  1025794 707-320
- Oxford-IIIT Pets, annotations/trainval.txt:  Abyssinian_100 1 1 1
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from issl_engine.sources.base import Dataset, SourceConfig, SourceError, listed
from issl_engine.sources.formats.class_list import given_classes
from issl_engine.sources.image_files.found import ClassFiles, FoundFiles
from issl_engine.sources.image_files.remembered_sizes import ImageSizes

NAMED_AT_MOST = 5
COMMENT = "#"
Lists = Annotated[tuple[Path, ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class _Line:
    """An image that a list names; ``place`` is how messages name the line."""

    place: str
    name: str
    label: str


class ImageListConfig(SourceConfig):
    """Image files that text files list, one a line: the official splits of Food-101, DTD, FGVC-Aircraft and Pets."""

    name: Literal["image_list"] = "image_list"
    folder: Path
    """Folder of the unpacked archive; lists and images are below it."""
    train: Lists
    """Text files that list the training split, relative to the folder, read one after the other."""
    test: Lists
    """Text files that list the test split."""
    path: str = "images/{name}"
    """Where an image lies in the folder; {name} stands for the first word of its line."""
    label: Literal["folder", "rest", "prefix"] = "folder"
    """Where a line tells the class. folder: the folder in the name (apple_pie/1005649). rest: what is behind the first
    blank (1025794 Boeing 707-320). prefix: the name without the number at its end (Abyssinian_100)."""
    classes: tuple[str, ...] | Path | None = None
    """Classes to take, in this order: a list of names, or a text file, one name per line; null takes all, sorted."""
    max_corrupt_files: Annotated[int, Field(ge=0)] = 10
    """More unreadable image files than this are an error; fewer are named, counted and left out."""

    def load(self) -> Dataset:
        return self._find().dataset(max_corrupt_files=self.max_corrupt_files)

    def survey(self) -> Dataset:
        return self._find().survey()

    def _find(self) -> FoundFiles:
        if not self.folder.is_dir():
            raise SourceError(f"source.folder: {self.folder} is not a folder; name the one that holds the lists")
        if "{name}" not in self.path:
            raise SourceError(
                f"source.path: '{self.path}' has no {{name}}, so every line is one file; write images/{{name}}.jpg"
            )
        train, test = (self._lines(lists, key) for key, lists in (("train", self.train), ("test", self.test)))
        _check_listed_once([*train, *test])
        classes = given_classes(self.classes) or tuple(sorted({line.label for line in train}))
        strange = sorted({line.label for line in test} - set(classes)) if self.classes is None else []
        if strange:
            raise SourceError(
                f"{self.folder}: the test split has classes that the training split lacks: "
                f"{listed(strange, at_most=NAMED_AT_MOST)}; check source.train, source.test and source.label"
            )
        sizes = ImageSizes(self.folder)
        found = FoundFiles(
            folder=self.folder, classes=classes, train=self._by_class(train, "train", classes, sizes),
            test=self._by_class(test, "test", classes, sizes),
        )  # fmt: skip
        sizes.save()
        return found

    def _by_class(
        self, lines: list[_Line], split: str, classes: tuple[str, ...], sizes: ImageSizes
    ) -> list[ClassFiles]:
        members: dict[str, list[str]] = {name: [] for name in classes}
        for line in lines:
            if line.label in members:
                members[line.label].append(os.path.join(self.folder.absolute(), self._file(line)))
        return [
            ClassFiles(place=f"{self.folder}, split {split}, class {name}", files=list(sizes.look_up(paths)))
            for name, paths in members.items()
        ]

    def _file(self, line: _Line) -> str:
        return os.path.normpath(self.path.replace("{name}", line.name))

    def _lines(self, lists: tuple[Path, ...], key: str) -> list[_Line]:
        found = []
        for name in lists:
            path = self.folder / name
            try:
                text = path.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
                raise SourceError(
                    f"source.{key}: {path} cannot be read ({reason}); name a text file with one image per line"
                ) from error
            rows = [
                (number, line.strip())
                for number, line in enumerate(text.splitlines(), start=1)
                if line.strip() and not line.startswith(COMMENT)
            ]
            if not rows:
                raise SourceError(f"{path}: the list names no image; fetch it again")
            found += [self._line(f"{path}, line {number}", row) for number, row in rows]
        return found

    def _line(self, place: str, row: str) -> _Line:
        name, _, rest = row.partition(" ")
        folder, _, file = name.rpartition("/")
        stem, _, number = file.rpartition("_")
        label = {"folder": folder, "rest": rest.strip(), "prefix": stem if number.isdecimal() else ""}[self.label]
        if not label:
            raise SourceError(f"{place}: '{row}' tells no class by source.label {self.label}; choose another")
        return _Line(place=place, name=name, label=label)


def _check_listed_once(lines: list[_Line]) -> None:
    counts = Counter(line.name for line in lines)
    twice = [f"{line.name} ({line.place})" for line in lines if counts[line.name] > 1]
    if twice:
        raise SourceError(
            f"{len(twice)} lines name an image that another one names too: "
            f"{listed(twice, at_most=NAMED_AT_MOST, between='; ')}; leave one of them"
        )
