"""From image files, found class by class, to a data set: what is corrupt, empty or in both splits is said.

Shared by the sources whose images are files in folders.
"""

import hashlib
import logging
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from issl_engine.data.sources.base import CorruptFile, Dataset, ImageSet, SourceError
from issl_engine.data.sources.image_sizes import ImageFile, ImageSizes

_log = logging.getLogger("issl_engine")

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".gif", ".avif", ".heic", ".heif"}
)
"""The last four are not decoded here: such files are named and counted, for a class must not shrink unseen."""
NAMED_AT_MOST = 10
"""Corrupt files that a message names."""
COMPARED_AT_MOST = 20_000
"""Up to so many images, files of equal length are compared by content; above, only links to one file."""


@dataclass(frozen=True, kw_only=True)
class ClassFiles:
    """The files of one class in one split, readable or not; ``place`` names them in messages."""

    place: str
    files: list[ImageFile]

    @property
    def readable(self) -> list[ImageFile]:
        return [file for file in self.files if file.size_HW is not None]


@dataclass(frozen=True, kw_only=True)
class FoundFiles:
    """All files of a source below ``folder``: in both splits one entry a class, in the order of ``classes``."""

    folder: Path
    classes: tuple[str, ...]
    train: list[ClassFiles]
    test: list[ClassFiles]

    def dataset(self, *, max_corrupt_files: int) -> Dataset:
        """Raises SourceError for too many corrupt files, a class without images, an image in both splits."""
        self._report_corrupt(max_corrupt_files)
        for part in self.train + self.test:
            if not part.readable:
                number = len(part.files)
                why = f"none of its {number} image files can be read" if number else "the class has no image"
                raise SourceError(f"{part.place}: {why}; add images or remove the class from both splits")
        _check_disjoint(self.train, self.test)
        return self.survey()

    def survey(self) -> Dataset:
        """The same without any check; a split may be empty."""
        return Dataset(
            name=self.folder.resolve().name,
            classes=self.classes,
            train=_image_set(self.train),
            test=_image_set(self.test),
            skipped=self._corrupt(),
        )

    def _corrupt(self) -> tuple[CorruptFile, ...]:
        return tuple(
            CorruptFile(path=Path(file.path), reason=file.reason)
            for part in self.train + self.test
            for file in part.files
            if file.size_HW is None
        )

    def _report_corrupt(self, allowed: int) -> None:
        corrupt = self._corrupt()
        named = "; ".join(f"{file.path} ({file.reason})" for file in corrupt[:NAMED_AT_MOST])
        if len(corrupt) > NAMED_AT_MOST:
            named += f" and {len(corrupt) - NAMED_AT_MOST} more"
        if len(corrupt) > allowed:
            raise SourceError(
                f"{self.folder}: {len(corrupt)} image files cannot be read, more than "
                f"source.max_corrupt_files ({allowed}); mend or remove {named}"
            )
        if corrupt:
            _log.warning("%s: left out %d image files that cannot be read: %s", self.folder, len(corrupt), named)


def find_images(folder: Path, sizes: ImageSizes) -> ClassFiles:
    """Every image file at any depth, sorted by path; not hidden ones: macOS leaves ._x.jpg beside x.jpg."""
    paths = [
        os.path.join(place, name)
        for place, _, names in os.walk(folder.absolute())
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES and name[0] != "."
    ]
    return ClassFiles(place=str(folder), files=list(sizes.look_up(sorted(paths))))


def _image_set(parts: list[ClassFiles]) -> ImageSet:
    labelled = [(file, label) for label, part in enumerate(parts) for file in part.readable]
    return ImageSet(
        labels=np.array([label for _, label in labelled], dtype=np.int64),
        sizes_HW=np.array([file.size_HW for file, _ in labelled], dtype=np.int32).reshape(-1, 2),
        paths=tuple(file.path for file, _ in labelled),
    )


def _check_disjoint(train: list[ClassFiles], test: list[ClassFiles]) -> None:
    """Raises SourceError when both splits hold the same content, under whatever name."""
    total = sum(len(part.files) for part in train + test)

    def key(file: ImageFile) -> tuple[int, ...]:
        return (file.num_bytes,) if total <= COMPARED_AT_MOST else (file.device, file.inode)

    candidates: defaultdict[tuple[int, ...], list[ImageFile]] = defaultdict(list)
    for file in (file for part in train for file in part.readable):
        candidates[key(file)].append(file)
    contents: dict[str, str] = {}
    shared: list[tuple[str, str]] = []
    for file in (file for part in test for file in part.readable):
        for other in candidates.get(key(file), ()):
            if _content(file.path, contents) == _content(other.path, contents):
                shared.append((other.path, file.path))
    if shared:
        raise SourceError(
            f"{shared[0][1]}: the same image is in the training split, as {shared[0][0]} ({len(shared)} such "
            "pairs); remove it from one of them"
        )


def _content(path: str, known: dict[str, str]) -> str:
    """SHA-256 of the file."""
    if path not in known:
        with open(path, "rb") as file:
            known[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return known[path]
