"""Reading what shards hold, once: remembered between runs, file by file."""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from issl_engine.cache import cache_folder
from issl_engine.sources.base import SourceError
from issl_engine.sources.byte_ranges import Stamp, file_stamp
from issl_engine.sources.formats import image_sizes
from issl_engine.sources.formats.file_bytes import open_part
from issl_engine.sources.formats.new_file import new_file
from issl_engine.sources.formats.sample import Sample
from issl_engine.sources.shards.shard import Shard, make_shard

_log = logging.getLogger("issl_engine")

FORMAT = [1, image_sizes.FORMAT]
"""Version of a remembered scan; raise the first whenever shards are read differently."""
FILES_AT_ONCE = 4
SIZES_AT_ONCE = 8
SAMPLES_A_TASK = 32

Reader = Callable[[Path], tuple[Path, list[Sample]]]
"""Shard → the file that holds the images' bytes (the shard itself, or a copy of the cache), and its samples."""


class ShardScans:
    """Scans files with ``read``; ``settings`` are all that its result depends on beside the file.

    Each file's scan is kept by itself, so that an interrupted scan of many goes on. Processes of one machine share the
    work: a file that another one scans is waited for.
    """

    def __init__(self, folder: Path, settings: str, read: Reader) -> None:
        self.folder, self._settings, self._read = folder, settings, read
        self._not_kept: OSError | None = None

    def scan(self, paths: list[Path]) -> list[Shard]:
        """One Shard per path, in their order. Raises SourceError."""
        with ThreadPoolExecutor(FILES_AT_ONCE) as files, ThreadPoolExecutor(SIZES_AT_ONCE) as sizes:
            known = list(files.map(self._remembered, paths))
            if missing := known.count(None):
                _log.info("%s: reading the headers of %d files, once", self.folder, missing)
            shards = list(
                files.map(lambda path, shard: shard if shard is not None else self._scan(path, sizes), paths, known)
            )
        if self._not_kept is not None:  # reported here and once, since many threads come to it
            _log.warning(
                "%s: what the shards of %s hold cannot be kept (%s), so the next run reads all headers again",
                cache_folder() / "shards",
                self.folder,
                self._not_kept.strerror,
            )
        return shards

    def _scan(self, path: Path, pool: ThreadPoolExecutor) -> Shard:
        with _one_process_at_a_time(self._place(path)):
            found = self._remembered(path)  # by another process, meanwhile
            if found is not None:
                return found
            before = _stamp(path)
            file, samples = self._read(path)
            stamp = _stamp(file)
            shard = make_shard(str(file), stamp, samples, _sizes(file, samples, pool))
            if _stamp(path) != before:
                raise SourceError(f"{path}: the file was written while it was read; start again when it is complete")
            self._keep(path, {"format": FORMAT, "source": before, **shard.to_json()})
            return shard

    def _place(self, path: Path) -> Path:
        key = f"{path.absolute()}:{self._settings}"
        return cache_folder() / "shards" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def _remembered(self, path: Path) -> Shard | None:
        """What the cache knows of this state of the file."""
        place = self._place(path)
        if not place.is_file():
            return None
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or tuple(content["source"]) != _stamp(path):
                return None
            shard = Shard.from_json(content)
        except (OSError, ValueError, TypeError, LookupError, AssertionError):
            _log.info("%s: what it says of %s cannot be used and is made anew", place, path)
            return None
        return shard if _is_in_state(shard.file, shard.stamp) else None

    def _keep(self, path: Path, content: dict[str, Any]) -> None:
        """Whole or not at all; ``scan`` warns where the cache cannot be written."""
        place = self._place(path)
        try:
            with new_file(place) as file:
                file.write(json.dumps(content).encode())
        except OSError as error:
            self._not_kept = error


@contextmanager
def _one_process_at_a_time(place: Path) -> Iterator[None]:
    """Where the cache or its disk has no locks, processes do the work side by side, to the same end."""
    lock = place.with_suffix(".lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            _log.debug("%s: no lock (%s)", lock, error)
        yield
        lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _stamp(path: Path) -> Stamp:
    try:
        return file_stamp(str(path))
    except OSError as error:
        raise SourceError(f"{path}: the file cannot be read ({error.strerror}); put it back or name others") from error


def _is_in_state(file: str, stamp: Stamp) -> bool:
    try:
        return file_stamp(file) == stamp
    except OSError:
        return False


def _sizes(file: Path, samples: list[Sample], pool: ThreadPoolExecutor) -> list[tuple[int, int] | str]:
    """(height, width) in pixels of each sample, or why it is no image."""
    chunks = [samples[first : first + SAMPLES_A_TASK] for first in range(0, len(samples), SAMPLES_A_TASK)]
    with open(file, "rb", buffering=0) as opened:
        descriptor = opened.fileno()
        return [size for part in pool.map(lambda chunk: _sizes_of(descriptor, chunk), chunks) for size in part]


def _sizes_of(descriptor: int, samples: list[Sample]) -> list[tuple[int, int] | str]:
    return [
        sample.reason or image_sizes.size_of_image(open_part(descriptor, sample.start, sample.length), sample.length)
        for sample in samples
    ]
