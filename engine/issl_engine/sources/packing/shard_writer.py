"""One shard: a tar file that is the same for the same samples, with the list of its samples beside it.

Each image lies in the tar as <key>.<suffix>, followed by its label as <key>.cls: what the WebDataset format asks for.
Until it is complete, a shard has a hidden name.
"""

import hashlib
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from issl_engine.sources.packing.index import FORMAT
from issl_engine.sources.packing.packed_sample import PackedSample
from issl_engine.whole_file import sync

END_BYTES = 2 * tarfile.BLOCKSIZE
"""Two blocks of zeros end a tar file, which is then filled up to a whole record."""


@dataclass(frozen=True, kw_only=True)
class PackedShard:
    """A complete shard, as index.json lists it."""

    file: str
    split: str
    samples: int
    bytes: int
    sha256: str


class ShardWriter:
    """Writes the shard ``path``, of at most ``limit_bytes`` or of one sample. Raises OSError.

    A block that ends before ``publish`` leaves nothing behind.
    """

    def __init__(self, path: Path, split: str, limit_bytes: int) -> None:
        self.path, self.split, self.limit_bytes = path, split, limit_bytes
        self.samples: list[list[Any]] = []
        self._partial = hidden(path)
        self._length, self._digest = 0, hashlib.sha256()

    def __enter__(self) -> "ShardWriter":
        self._file = self._partial.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._file.close()
        except OSError:  # what is still to be written may have no room either
            if kind is None:
                raise
        finally:
            self._partial.unlink(missing_ok=True)

    def fits(self, sample: PackedSample) -> bool:
        """Whether there is room for it; always in an empty shard."""
        more = _member_bytes(len(sample.content)) + (_member_bytes(len(_cls(sample))) if sample.label >= 0 else 0)
        return not self.samples or _whole_records(self._length + more + END_BYTES) <= self.limit_bytes

    def add(self, sample: PackedSample) -> None:
        start = self._add_member(f"{sample.key}.{sample.suffix}", sample.content)
        if sample.label >= 0:
            self._add_member(f"{sample.key}.cls", _cls(sample))
        self.samples.append([sample.key, start, len(sample.content), sample.label, *sample.size_HW])

    def publish(self) -> PackedShard:
        """Gives the shard and its list their names, once they are safe on the disk."""
        self._write(bytes(_whole_records(self._length + END_BYTES) - self._length))
        self._file.flush()
        os.fsync(self._file.fileno())
        listed = {"format": FORMAT, "bytes": self._length, "samples": self.samples}
        write_json(self.path.with_suffix(".json"), listed)
        os.replace(self._partial, self.path)
        sync(self.path.parent)
        return PackedShard(
            file=self.path.name,
            split=self.split,
            samples=len(self.samples),
            bytes=self._length,
            sha256=self._digest.hexdigest(),
        )

    def _add_member(self, name: str, content: bytes) -> int:
        """The place of the content in the file. A member's time, owner and rights are always the same."""
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(content), 0o644, 0
        self._write(member.tobuf(tarfile.USTAR_FORMAT))
        start = self._length
        self._write(content)
        self._write(bytes(-len(content) % tarfile.BLOCKSIZE))
        return start

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
        self._length += len(content)


def hidden(path: Path) -> Path:
    """The name of a file that is being written."""
    return path.with_name(f".{path.name}.partial")


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all, and safe on the disk. Raises OSError."""
    partial = hidden(path)
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, separators=(",", ":"))
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _cls(sample: PackedSample) -> bytes:
    return str(sample.label).encode("ascii")


def _member_bytes(length: int) -> int:
    """What a member of this length takes: header and whole blocks."""
    return tarfile.BLOCKSIZE * (1 - (-length // tarfile.BLOCKSIZE))


def _whole_records(length: int) -> int:
    return length + -length % tarfile.RECORDSIZE
