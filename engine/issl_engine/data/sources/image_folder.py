"""Images in folders: train/<class>/* and val/<class>/*, ImageNet's layout."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from issl_engine.data.cache import cache_folder
from issl_engine.data.sources.base import CorruptFile, Dataset, ImageSet, SourceConfig, SourceError

_log = logging.getLogger("issl_engine")

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
EXIF_ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width; decoding applies them."""


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
        classes = _classes(self.folder / "train")
        test_classes = _classes(self.folder / self.test_split)
        if classes != test_classes:
            odd = sorted(set(classes) ^ set(test_classes))
            raise SourceError(
                f"{self.folder}: train/ and {self.test_split}/ must hold the same classes, but {', '.join(odd[:5])}"
                f"{' and others' if len(odd) > 5 else ''} is in one only"
            )
        known = _Index(self.folder)
        corrupt: list[CorruptFile] = []
        train = _scan(self.folder / "train", classes, known, corrupt)
        test = _scan(self.folder / self.test_split, classes, known, corrupt)
        known.save()
        self._report(corrupt)
        _check_disjoint(train, test)
        return Dataset(name=self.folder.name, classes=classes, train=train, test=test, skipped=tuple(corrupt))

    def _report(self, corrupt: list[CorruptFile]) -> None:
        named = "; ".join(f"{file.path} ({file.reason})" for file in corrupt[:10])
        if len(corrupt) > self.max_corrupt_files:
            raise SourceError(
                f"{self.folder}: {len(corrupt)} image files cannot be read, more than source.max_corrupt_files "
                f"({self.max_corrupt_files}): {named}"
            )
        if corrupt:
            _log.warning("%s: left out %d image files that cannot be read: %s", self.folder, len(corrupt), named)


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise SourceError(f"{folder}: the folder is missing; image_folder needs train/<class>/* and val/<class>/*")
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if not classes:
        raise SourceError(f"{folder}: there are no class folders in it; image_folder needs {folder.name}/<class>/*")
    return classes


def _scan(folder: Path, classes: tuple[str, ...], known: "_Index", corrupt: list[CorruptFile]) -> ImageSet:
    paths: list[str] = []
    labels: list[int] = []
    sizes: list[tuple[int, int]] = []
    for label, name in enumerate(classes):
        files = sorted(str(f.absolute()) for f in (folder / name).rglob("*") if f.suffix.lower() in SUFFIXES)
        readable = 0
        for path, found in zip(files, known.look_up(files), strict=True):
            if isinstance(found, str):
                corrupt.append(CorruptFile(path=Path(path), reason=found))
                continue
            readable += 1
            paths.append(path)
            labels.append(label)
            sizes.append(found)
        if not readable:
            raise SourceError(f"{folder / name}: the class has no readable image; add some or remove its folder")
    return ImageSet(
        labels=np.array(labels, dtype=np.int64), sizes_HW=np.array(sizes, dtype=np.int32), paths=tuple(paths)
    )


class _Index:
    """Sizes of the images, remembered by path, length and time of change, so that a large folder is read once."""

    def __init__(self, folder: Path) -> None:
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self.path = cache_folder() / "image-folders" / f"{name}.json"
        self.entries: dict[str, list[int]] = {}
        if self.path.is_file():
            try:
                self.entries = json.loads(self.path.read_text(encoding="utf-8"))
            except json.JSONDecodeError:
                _log.info("%s: the index of %s is damaged and is made anew", self.path, folder)
        self.changed = False

    def look_up(self, paths: list[str]) -> Iterable[tuple[int, int] | str]:
        """(height, width) of each file, or why it cannot be read."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            yield from pool.map(self._size, paths)

    def _size(self, path: str) -> tuple[int, int] | str:
        status = os.stat(path)
        entry = self.entries.get(path)
        if entry is not None and entry[:2] == [status.st_size, status.st_mtime_ns]:
            return entry[2], entry[3]
        size = _read_size(path, status.st_size)
        if not isinstance(size, str):
            self.entries[path] = [status.st_size, status.st_mtime_ns, *size]
            self.changed = True
        return size

    def save(self) -> None:
        if not self.changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(json.dumps(self.entries), encoding="utf-8")
            os.replace(partial, self.path)
        except OSError as error:
            _log.warning("%s: the index of images cannot be kept (%s), so the next run reads all headers again",
                         self.path, error.strerror)  # fmt: skip


def _read_size(path: str, num_bytes: int) -> tuple[int, int] | str:
    """From the header, and for JPEG the end-of-image marker: decoding all of ImageNet would take an hour."""
    if num_bytes == 0:
        return "empty file"
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(EXIF_ORIENTATION)
            is_jpeg = image.format == "JPEG"
    except UnidentifiedImageError:
        return "not an image"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)
    if is_jpeg and not _ends_whole(path, num_bytes):
        return "truncated"
    return (width, height) if orientation in TURNED else (height, width)


def _ends_whole(path: str, num_bytes: int) -> bool:
    """Whether the end-of-image marker is in the last kilobyte (some cameras append padding)."""
    with open(path, "rb") as file:
        file.seek(max(0, num_bytes - 1024))
        return b"\xff\xd9" in file.read()


def _check_disjoint(train: ImageSet, test: ImageSet) -> None:
    assert train.paths is not None
    assert test.paths is not None
    shared = {os.path.realpath(path) for path in train.paths} & {os.path.realpath(path) for path in test.paths}
    if shared:
        raise SourceError(
            f"{min(shared)}: the file is in the training and in the test split ({len(shared)} such files); "
            "remove it from one of them"
        )
