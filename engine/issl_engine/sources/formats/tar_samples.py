"""What a tar shard holds, in WebDataset's convention: members of one name up to its first dot make a sample."""

import json
import os
import re
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from issl_engine.sources.base import SourceError
from issl_engine.sources.formats.sample import Sample, label_text

SHOWN_AT_MOST = 10
BLOCK_BYTES = 512
KEY_AND_SUFFIX = re.compile(r"(?P<key>(?:.*/)?[^/.][^/.]*)\.(?P<suffix>[^/]*)", re.DOTALL)
"""The first dot behind the last slash parts them; names that begin with a dot are no samples."""
LABEL_BYTES_AT_MOST = 2**20
"""A larger member is no label."""


class _Member(NamedTuple):
    name: str
    start: int
    length: int
    reason: str
    """Why it has no bytes of its own, or empty."""


@dataclass(frozen=True, kw_only=True)
class TarReader:
    """``image_suffixes`` in order of preference, lower case; ``label_suffix`` of the member that holds the label, and
    ``label_key`` of its JSON, or None where it is the label itself."""

    image_suffixes: tuple[str, ...]
    label_suffix: str
    label_key: str | None

    def read(self, path: Path) -> tuple[Path, list[Sample]]:
        """All samples, in the order of their first members. Raises SourceError for what is no whole tar file."""
        path = path.absolute()
        members = _members(path)
        if members and not any(set(one) & set(self.image_suffixes) for one in members.values()):
            there = ", ".join(sorted({f".{suffix}" for one in members.values() for suffix in one})[:SHOWN_AT_MOST])
            raise SourceError(
                f"{path}: no member is an image (there are: {there}); name their suffix in source.image_suffixes"
            )
        with open(path, "rb", buffering=0) as file:
            return path, [self._sample(file.fileno(), path, key, members[key]) for key in members]

    def _sample(self, descriptor: int, path: Path, key: str, members: dict[str, _Member]) -> Sample:
        label = self._label(descriptor, path, members.get(self.label_suffix))
        for suffix in self.image_suffixes:
            if member := members.get(suffix):
                name, start, length, reason = member
                return Sample(name=name, start=start, length=length, label=label, reason=reason)
        there = ", ".join(f".{suffix}" for suffix in members)
        return Sample(name=key, label=label, reason=f"the sample has no image (it has {there})")

    def _label(self, descriptor: int, path: Path, member: _Member | None) -> str | None:
        if member is None or member.reason:
            return None
        if member.length > LABEL_BYTES_AT_MOST:
            raise SourceError(f"{path}: {member.name} has {member.length} bytes and is no label; correct source.label")
        content = os.pread(descriptor, member.length, member.start)
        try:
            value: Any = content.decode()
            if self.label_key is not None:
                value = json.loads(value)
                value = value.get(self.label_key) if isinstance(value, dict) else None
        except ValueError as error:
            raise SourceError(f"{path}: the label in {member.name} cannot be read ({error}); write it again") from error
        try:
            return label_text(value)
        except ValueError as error:
            raise SourceError(f"{path}: the label in {member.name} is {error}; correct source.label") from error


def _members(path: Path) -> dict[str, dict[str, _Member]]:
    """Key → suffix in lower case → member."""
    found: defaultdict[str, dict[str, _Member]] = defaultdict(dict)
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                parts = KEY_AND_SUFFIX.fullmatch(info.name)
                if parts is None or info.isdir():
                    continue
                reason = _without_bytes(info)
                if not reason and info.offset_data + info.size > size:
                    raise SourceError(_cut_short(path, info.name))
                suffixes = found[parts["key"]]
                suffix = parts["suffix"].lower()
                if suffix in suffixes:
                    raise SourceError(f"{path}: {info.name} is there twice; write the shard again")
                suffixes[suffix] = _Member(info.name, info.offset_data, info.size, reason)
            end = archive.offset
    except tarfile.TarError as error:
        raise SourceError(
            f"{path}: this is no tar file, or a packed or damaged one ({error}); unpack it or fetch it again"
        ) from error
    _check_end(path, end)
    return found


def _without_bytes(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return f"a link to {info.linkname}, which has no bytes of its own"
    if info.issparse():
        return "stored with holes, so its bytes do not lie together"
    return "" if info.isfile() else "no file"


def _check_end(path: Path, end: int) -> None:
    """Python's reader takes a damaged header, or the end of a file cut short, for the end of the archive."""
    with open(path, "rb") as file:
        file.seek(end)
        block = file.read(BLOCK_BYTES)
    if len(block) < BLOCK_BYTES:
        raise SourceError(_cut_short(path, "its end mark"))
    if any(block):
        raise SourceError(f"{path}: the header at byte {end} is damaged; fetch or write the shard again")


def _cut_short(path: Path, what: str) -> str:
    return f"{path}: the file ends before {what} does; fetch or write the shard again"
