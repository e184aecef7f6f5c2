"""Sizes of image files from their headers, remembered between runs."""

import hashlib
import json
import logging
import os
import struct
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from issl_engine.cache import cache_folder
from issl_engine.sources.image_kinds import refused_kind

_log = logging.getLogger("issl_engine")

FORMAT = 2
"""Of the index file; raise it whenever sizes are read differently."""
EXIF_ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width; DALI's decoder applies them."""
END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
"""How a whole file ends; Pillow does without a PNG's end mark, DALI does not."""
TAIL_BYTES = 1024
"""The end mark is looked for in so many last bytes: some cameras append padding."""


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """A file that may be an image.

    ``size_HW`` is the decoded size in pixels, or None with a ``reason``. ``device`` and ``inode`` name the
    content on its disk, whatever the path; ``num_bytes`` is its length.
    """

    path: str
    size_HW: tuple[int, int] | None
    reason: str = ""
    num_bytes: int = 0
    device: int = 0
    inode: int = 0


class ImageSizes:
    """Remembers sizes by path, length and time of change, so that a large folder's headers are read once."""

    def __init__(self, folder: Path) -> None:
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self.folder = folder
        self.path = cache_folder() / "image-folders" / f"{name}.json"
        self._entries = self._load()
        self._changed = False

    def look_up(self, paths: list[str]) -> Iterable[ImageFile]:
        """Each file's size, in the order of ``paths``."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            yield from pool.map(self._look_up, paths)

    def save(self) -> None:
        """Writes the index, whole or not at all; warns where the cache cannot be written."""
        if not self._changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(prefix=f".{self.path.stem}-", dir=self.path.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "files": self._entries}, file)
            os.replace(partial, self.path)
        except OSError as error:
            _log.warning(
                "%s: the index of image sizes cannot be kept (%s), so the next run reads all headers again",
                self.path,
                error.strerror,
            )

    def _load(self) -> dict[str, list[int]]:
        if not self.path.is_file():
            return {}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            _log.info("%s: the index of %s cannot be used and is made anew", self.path, self.folder)
            return {}
        files: dict[str, list[int]] = content["files"]
        return files

    def _look_up(self, path: str) -> ImageFile:
        try:
            status = os.stat(path)
        except OSError as error:  # such as a link that leads nowhere
            return ImageFile(path=path, size_HW=None, reason=error.strerror or str(error))
        key = os.path.relpath(path, self.folder)
        stamp = [status.st_size, status.st_mtime_ns]
        entry = self._entries.get(key)
        found: tuple[int, int] | str
        if entry is not None and entry[:2] == stamp:
            found = entry[2], entry[3]
        else:
            found = read_size(path, status.st_size)
            if not isinstance(found, str):
                self._entries[key] = [*stamp, *found]
                self._changed = True
        return ImageFile(
            path=path,
            size_HW=None if isinstance(found, str) else found,
            reason=found if isinstance(found, str) else "",
            num_bytes=status.st_size,
            device=status.st_dev,
            inode=status.st_ino,
        )


def read_size(path: str, num_bytes: int) -> tuple[int, int] | str:
    """As size_of_image, of a file."""
    try:
        with open(path, "rb") as file:
            return size_of_image(file, num_bytes)
    except OSError as error:
        return str(error)


def size_of_image(file: BinaryIO, num_bytes: int) -> tuple[int, int] | str:
    """(height, width) as decoded, in pixels, or why the image cannot be read or is of a kind that is left out.

    Of a JPEG only header and end-of-image marker are looked at: decoding all of ImageNet would take an hour. Images of
    other formats are decoded, as their headers say nothing of a missing end. ``file`` holds the image alone.
    """
    if num_bytes == 0:
        return "empty file"
    try:
        with Image.open(file) as image:
            refusal = refused_kind(image, file)
            if refusal is not None:
                return refusal
            width, height = image.size
            if isinstance(image, TiffImageFile):  # whose size Pillow has already turned, in some versions
                width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
            if image.getexif().get(EXIF_ORIENTATION) in TURNED:
                width, height = height, width
            if image.format not in ("JPEG", "MPO"):
                image.load()
            mark = END_MARKS.get(str(image.format))
            if mark is not None and not _ends_with(file, num_bytes, mark):
                return "truncated"
    except UnidentifiedImageError:
        return "not an image"
    except (
        OSError,
        SyntaxError,
        ValueError,
        KeyError,
        TypeError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        return str(error) or type(error).__name__
    return height, width


def _ends_with(file: BinaryIO, num_bytes: int, mark: bytes) -> bool:
    file.seek(max(0, num_bytes - TAIL_BYTES))
    return mark in file.read()
