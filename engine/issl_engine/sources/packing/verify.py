"""Compares packed shards with their index: checksums, and the lists of samples with what the tar files hold."""

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from issl_engine.sources.base import SourceError
from issl_engine.sources.images.ordered_threads import map_in_order
from issl_engine.sources.packing.index import INDEX


def broken_shards(folder: Path, *, on_progress: Callable[[int, int], None] | None = None) -> dict[str, str]:
    """File → what is wrong with it, of every shard that index.json names; reads them all. Raises SourceError where
    there is no index."""
    path = folder / INDEX
    try:
        shards = json.loads(path.read_text(encoding="utf-8"))["shards"]
        expected = [(shard["file"], shard["bytes"], shard["samples"], shard["sha256"]) for shard in shards]
    except FileNotFoundError as error:
        raise SourceError(f"{path}: the file is missing, so packing was not completed; run data pack again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: the file cannot be read; run data pack again, into an empty folder") from error
    broken = {}
    for number, (shard, wrong) in enumerate(
        zip(expected, map_in_order(lambda shard: _wrong(folder / shard[0], *shard[1:]), expected), strict=True), start=1
    ):
        if wrong is not None:
            broken[shard[0]] = wrong
        if on_progress is not None:
            on_progress(number, len(expected))
    return broken


def _wrong(path: Path, num_bytes: int, num_samples: int, sha256: str) -> str | None:
    if not path.is_file():
        return "the file is missing"
    if path.stat().st_size != num_bytes:
        return f"has {path.stat().st_size} bytes instead of {num_bytes}"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            return "the checksum is wrong"
    listed = path.with_suffix(".json")
    try:
        content = json.loads(listed.read_text(encoding="utf-8"))
        same = content["bytes"] == num_bytes and [one[:4] for one in content["samples"]] == _samples(path)
    except (OSError, ValueError, KeyError, TypeError):
        return f"its list of samples, {listed.name}, cannot be read"
    if not same or len(content["samples"]) != num_samples:
        return f"its list of samples, {listed.name}, is not that of the tar file"
    return None


def _samples(path: Path) -> list[list[Any]]:
    """[key, start, length, label] of each image in a shard, from the tar's headers."""
    found: list[list[Any]] = []
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, suffix = member.name.rpartition(".")
            if suffix != "cls":
                found.append([key, member.offset_data, member.size, -1])
                continue
            content = tar.extractfile(member)
            assert content is not None
            found[-1][3] = int(content.read())
    return found
