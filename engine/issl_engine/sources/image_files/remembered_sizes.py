"""Sizes of a folder's image files, remembered between runs."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from issl_engine.cache import cache_folder
from issl_engine.sources.formats import image_sizes
from issl_engine.sources.formats.new_file import new_file

_log = logging.getLogger("issl_engine")


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
            with new_file(self.path) as file:
                file.write(json.dumps({"format": image_sizes.FORMAT, "files": self._entries}).encode())
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
        if not isinstance(content, dict) or content.get("format") != image_sizes.FORMAT:
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
            found = image_sizes.read_size(path, status.st_size)
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
