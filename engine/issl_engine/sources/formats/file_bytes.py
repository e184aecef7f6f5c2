"""The bytes of a source's file: all of them, or a part of an open file as a file of its own."""

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

from issl_engine.sources.base import SourceError

READ_AHEAD_BYTES = 8192
"""Enough for the header of most images."""


def file_content(path: Path) -> bytes:
    """The whole file. Raises SourceError that names ``path``."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: the file cannot be read ({error.strerror}); change its permissions") from error


class _FilePart(io.RawIOBase):
    """Reads by position, so that threads may share the descriptor."""

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self._descriptor, self._start, self._length, self._place = descriptor, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise ValueError("the place is before the beginning")
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._length - self._place))
        found = os.preadv(self._descriptor, [view[:count]], self._start + self._place) if count else 0
        self._place += found
        return found


def open_part(descriptor: int, start: int, length: int) -> BinaryIO:
    """Bytes [start, start + length) of the open file ``descriptor``, which the caller keeps open."""
    return io.BufferedReader(_FilePart(descriptor, start, length), READ_AHEAD_BYTES)
