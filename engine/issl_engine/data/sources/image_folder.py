"""Images in folders: train/<class>/* and val/<class>/*, ImageNet's layout."""

import hashlib
import logging
import os
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from issl_engine.data.sources.base import CorruptFile, Dataset, ImageSet, SourceConfig, SourceError
from issl_engine.data.sources.image_sizes import ImageFile, ImageSizes

_log = logging.getLogger("issl_engine")

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
NAMED_AT_MOST = 10
"""Corrupt files that a message names."""
COMPARED_AT_MOST = 20_000
"""Up to so many images, files of equal length are compared by content; above, only links to one file."""


class ImageFolderConfig(SourceConfig):
    """One folder a class, one of them in train/ and one in the test split's folder."""

    name: Literal["image_folder"] = "image_folder"
    folder: Path
    """Folder that holds train/ and the test split's folder."""
    test_split: Literal["val", "test"] = "val"
    """Folder whose images play the test split."""
    max_corrupt_files: Annotated[int, Field(ge=0)] = 10
    """More unreadable image files than this are an error; fewer are named, counted and left out."""

    def load(self) -> Dataset:
        if not self.folder.is_dir():
            raise SourceError(f"source.folder: {self.folder} is not a folder; name the one that holds train/")
        train_folder, test_folder = self.folder / "train", self.folder / self.test_split
        classes, test_classes = _classes(train_folder), _classes(test_folder)
        if classes != test_classes:
            odd = sorted(set(classes) ^ set(test_classes))
            raise SourceError(
                f"{self.folder}: train/ and {self.test_split}/ must hold the same classes, but only one "
                f"of them has {', '.join(odd[:5])}{' and others' if len(odd) > 5 else ''}; "
                "add or remove these folders"
            )
        sizes = ImageSizes(self.folder)
        train = [_scan(train_folder / name, sizes) for name in classes]
        test = [_scan(test_folder / name, sizes) for name in classes]
        sizes.save()
        corrupt = tuple(
            CorruptFile(path=Path(file.path), reason=file.reason)
            for files in train + test
            for file in files
            if file.size_HW is None
        )
        self._report(corrupt)
        for split, found in ((train_folder, train), (test_folder, test)):
            _check_no_class_is_empty(split, classes, found)
        _check_disjoint(train, test)
        return Dataset(
            name=self.folder.resolve().name,
            classes=classes,
            train=_image_set(train),
            test=_image_set(test),
            skipped=corrupt,
        )

    def _report(self, corrupt: tuple[CorruptFile, ...]) -> None:
        named = "; ".join(f"{file.path} ({file.reason})" for file in corrupt[:NAMED_AT_MOST])
        if len(corrupt) > NAMED_AT_MOST:
            named += f" and {len(corrupt) - NAMED_AT_MOST} more"
        if len(corrupt) > self.max_corrupt_files:
            raise SourceError(
                f"{self.folder}: {len(corrupt)} image files cannot be read, more than "
                f"source.max_corrupt_files ({self.max_corrupt_files}); mend or remove {named}"
            )
        if corrupt:
            _log.warning("%s: left out %d image files that cannot be read: %s", self.folder, len(corrupt), named)


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise SourceError(
            f"{folder}: the folder is missing; image_folder needs train/<class>/* and val/<class>/* "
            "(or test/<class>/* with source.test_split)"
        )
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if not classes:
        raise SourceError(f"{folder}: there are no class folders in it; image_folder needs {folder.name}/<class>/*")
    return classes


def _scan(folder: Path, sizes: ImageSizes) -> list[ImageFile]:
    """Every image file at any depth, sorted by path; not hidden ones: macOS leaves ._x.jpg beside x.jpg."""
    paths = [
        os.path.join(place, name)
        for place, _, names in os.walk(folder.absolute())
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES and name[0] != "."
    ]
    return list(sizes.look_up(sorted(paths)))


def _check_no_class_is_empty(split: Path, classes: tuple[str, ...], found: list[list[ImageFile]]) -> None:
    for name, files in zip(classes, found, strict=True):
        if all(file.size_HW is None for file in files):
            why = f"none of its {len(files)} image files can be read" if files else "the class has no image"
            raise SourceError(f"{split / name}: {why}; add images or remove the class from both splits")


def _image_set(found: list[list[ImageFile]]) -> ImageSet:
    labelled = [(file, label) for label, files in enumerate(found) for file in files if file.size_HW is not None]
    return ImageSet(
        labels=np.array([label for _, label in labelled], dtype=np.int64),
        sizes_HW=np.array([file.size_HW for file, _ in labelled], dtype=np.int32),
        paths=tuple(file.path for file, _ in labelled),
    )


def _check_disjoint(train: list[list[ImageFile]], test: list[list[ImageFile]]) -> None:
    """Raises SourceError when both splits hold the same content, under whatever name."""
    total = sum(map(len, train)) + sum(map(len, test))

    def key(file: ImageFile) -> tuple[int, ...]:
        return (file.num_bytes,) if total <= COMPARED_AT_MOST else (file.device, file.inode)

    candidates: defaultdict[tuple[int, ...], list[ImageFile]] = defaultdict(list)
    for file in (file for files in train for file in files if file.size_HW is not None):
        candidates[key(file)].append(file)
    contents: dict[str, str] = {}
    shared: list[tuple[str, str]] = []
    for file in (file for files in test for file in files if file.size_HW is not None):
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
