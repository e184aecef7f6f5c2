"""Encoded images inside larger files: shards, record files, a packed copy.

One idea for all of them: an image is a file, a place in it and a length. Any image can be read at any time, so the
order of an epoch is the engine's own permutation, whatever the file's format.

Letters: n images.
"""

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from io import FileIO

import numpy as np
from numpy.typing import NDArray

Stamp = tuple[int, int]
"""A file's length in bytes and its time of change in ns."""
OPEN_AT_MOST = 128
"""Files kept open at once: a process may often open no more than 1024."""


class OpenFiles:
    """Files open for reading; the one unused for longest is let go. May be shared by threads."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, FileIO] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str) -> FileIO:
        """Raises OSError. A file that was let go stays open for as long as a caller holds it."""
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = FileIO(path)
            self._files.move_to_end(path)
            if len(self._files) > OPEN_AT_MOST:
                self._files.popitem(last=False)
            return file


@dataclass(frozen=True, kw_only=True)
class ByteRanges:
    """n encoded images inside ``files`` (absolute names).

    ``file_of`` int32 [n]: each image's place in ``files``; ``starts`` and ``lengths`` int64 [n], in bytes; ``names``:
    what messages call each image inside its file, such as a tar member's name; ``stamps``: each file's state when
    it was scanned.
    """

    files: tuple[str, ...]
    file_of: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    names: tuple[str, ...]
    stamps: tuple[Stamp, ...]
    _open: OpenFiles = field(default_factory=OpenFiles, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert len(self.file_of) == len(self.starts) == len(self.lengths) == len(self.names)
        assert len(self.files) == len(self.stamps)

    def __len__(self) -> int:
        return len(self.file_of)

    def path(self, index: int) -> str:
        """The file that holds this image."""
        return self.files[int(self.file_of[index])]

    def describe(self, index: int) -> str:
        return f"{self.path(index)}: {self.names[index]}"

    def read(self, index: int) -> bytes:
        """The encoded image. Raises OSError, also where the file ends too early."""
        length = int(self.lengths[index])
        path = self.path(index)
        content = os.pread(self._open.get(path).fileno(), length, int(self.starts[index]))
        if len(content) != length:
            raise OSError(f"{path}: the file ends before {self.names[index]} does")
        return content

    def read_many(self, indices: NDArray[np.int64]) -> list[bytes]:
        """As read, of each. The kernel knows all ranges before the first is read, and fetches them side by side."""
        for index in indices.tolist():
            descriptor = self._open.get(self.path(index)).fileno()
            os.posix_fadvise(descriptor, int(self.starts[index]), int(self.lengths[index]), os.POSIX_FADV_WILLNEED)
        return [self.read(index) for index in indices.tolist()]

    def changed(self, index: int) -> str | None:
        """How this image's file differs from what was scanned, or None."""
        path, stamp = self.path(index), self.stamps[self.file_of[index]]
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return f"{path} (the file is gone)"
        if (status.st_size, status.st_mtime_ns) != stamp:
            return f"{path} (the file was written again: {status.st_size} bytes, when scanned {stamp[0]})"
        return None

    def subset(self, indices: NDArray[np.int64]) -> "ByteRanges":
        """The images at ``indices``, in that order."""
        return replace(
            self,
            file_of=self.file_of[indices],
            starts=self.starts[indices],
            lengths=self.lengths[indices],
            names=tuple(self.names[index] for index in indices),
        )


def file_stamp(path: str) -> Stamp:
    """Raises OSError."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
