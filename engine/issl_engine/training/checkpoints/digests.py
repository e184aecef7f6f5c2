"""SHA-256 of files, each made once per process as long as the file stays as it is."""

import hashlib
import os
from pathlib import Path

_FileState = tuple[int, int, int, int]

_digests: dict[_FileState, str] = {}


def sha256_of(path: Path) -> str:
    """The file's checksum; read from the disk the first time, and again when device, inode, size or time of change
    differ from then."""
    state = _state(os.stat(path))
    if state not in _digests:
        with path.open("rb") as file:
            _digests[state] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[state]


def remember(path: Path, digest: str) -> None:
    """Takes the checksum of a file that was just written, so that it need not be read again."""
    _digests[_state(os.stat(path))] = digest


def _state(stat: os.stat_result) -> _FileState:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
