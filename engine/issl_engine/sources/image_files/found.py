"""From image files, found class by class, to a data set: what is corrupt, empty or in both splits is reported.

Shared by the sources whose images are files in folders.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from issl_engine.sources.base import CorruptFile, Dataset, ImageSet, SourceError
from issl_engine.sources.image_files.remembered_sizes import ImageFile, ImageSizes
from issl_engine.sources.images.checks import COMPARED_AT_MOST, StoredImage, check_disjoint, report_corrupt

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".gif", ".avif", ".heic", ".heif"}
)
"""The last four are not decoded here: such files are named and counted, for a class must not shrink unseen."""


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
    """All files of a source below ``folder``: each split has one entry per class, in the order of ``classes``."""

    folder: Path
    classes: tuple[str, ...]
    train: list[ClassFiles]
    test: list[ClassFiles]

    def dataset(self, *, max_corrupt_files: int) -> Dataset:
        """Raises SourceError for too many corrupt files, a class without images, an image in both splits."""
        report_corrupt(self.folder, self._corrupt(), allowed=max_corrupt_files, what="image files")
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
    by_content = sum(len(part.files) for part in train + test) <= COMPARED_AT_MOST

    def stored(parts: list[ClassFiles]) -> Iterator[StoredImage]:
        for file in (file for part in parts for file in part.readable):
            key = (file.num_bytes,) if by_content else (file.device, file.inode)
            yield StoredImage(file.path, key, Path(file.path).read_bytes)

    check_disjoint(stored(train), stored(test))
