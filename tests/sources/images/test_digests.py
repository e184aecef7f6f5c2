"""Digests of images: of their content, and read once."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from issl_engine.sources.base import ImageSet
from issl_engine.sources.byte_ranges import ByteRanges, file_stamp
from issl_engine.sources.images.digests import content_digest

CONTENTS = (b"first", b"second image", b"third")


def image_set(**stored) -> ImageSet:
    count = len(next(iter(stored.values())))
    return ImageSet(labels=np.zeros(count, np.int64), sizes_HW=np.ones((count, 2), np.int32), **stored)


def files(folder: Path, *, age_seconds: float = 60) -> ImageSet:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.jpg" for number in range(len(CONTENTS))]
    for path, content in zip(paths, CONTENTS, strict=True):
        path.write_bytes(content)
        set_age(path, age_seconds)
    return image_set(paths=tuple(map(str, paths)))


def set_age(path: Path, seconds: float) -> None:
    status = os.stat(path)
    os.utime(path, (status.st_atime, status.st_mtime - seconds))


@pytest.fixture
def read_count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many images were read so far."""
    reads = []
    original = ImageSet.stored_bytes
    monkeypatch.setattr(ImageSet, "stored_bytes", lambda self, index: reads.append(index) or original(self, index))
    return lambda: len(reads)


def test_the_same_images_elsewhere_have_the_same_digest(tmp_path: Path) -> None:
    here = content_digest(files(tmp_path / "a"), tmp_path / "memory")
    assert content_digest(files(tmp_path / "b"), tmp_path / "memory") == here
    shard = tmp_path / "shard"
    shard.write_bytes(b"".join(CONTENTS))
    lengths = np.array([len(content) for content in CONTENTS], dtype=np.int64)
    ranges = ByteRanges(
        files=(str(shard),), file_of=np.zeros(3, np.int32), starts=np.cumsum(lengths) - lengths, lengths=lengths,
        names=("a", "b", "c"), stamps=(file_stamp(str(shard)),),
    )  # fmt: skip
    assert content_digest(image_set(ranges=ranges), tmp_path / "memory") == here


def test_a_second_call_reads_nothing(tmp_path: Path, read_count: Callable[[], int]) -> None:
    images = files(tmp_path / "a")
    first = content_digest(images, tmp_path / "memory")
    assert read_count() == 3
    assert content_digest(images, tmp_path / "memory") == first
    assert read_count() == 3


def test_a_replaced_image_is_seen_and_a_touched_one_keeps_the_digest(
    tmp_path: Path, read_count: Callable[[], int]
) -> None:
    images = files(tmp_path / "a")
    first = content_digest(images, tmp_path / "memory")
    assert images.paths is not None
    path = Path(images.paths[1])
    set_age(path, 10)
    assert content_digest(images, tmp_path / "memory") == first
    assert read_count() == 6
    path.write_bytes(b"another one!")  # of the same length
    set_age(path, 30)
    assert content_digest(images, tmp_path / "memory") != first


def test_files_written_a_moment_ago_are_not_remembered(tmp_path: Path, read_count: Callable[[], int]) -> None:
    images = files(tmp_path / "a", age_seconds=0)
    content_digest(images, tmp_path / "memory")
    content_digest(images, tmp_path / "memory")
    assert read_count() == 6


def test_a_damaged_memory_is_made_anew(tmp_path: Path) -> None:
    images = files(tmp_path / "a")
    first = content_digest(images, tmp_path / "memory")
    (remembered,) = (tmp_path / "memory").iterdir()
    remembered.write_text('{"sha256": 3')
    assert content_digest(images, tmp_path / "memory") == first
    assert first in remembered.read_text()


def test_order_and_borders_count(tmp_path: Path) -> None:
    images = files(tmp_path / "a")
    assert images.paths is not None
    turned = replace(images, paths=images.paths[::-1])
    assert content_digest(images, tmp_path / "memory") != content_digest(turned, tmp_path / "memory")
    one, other = tmp_path / "one", tmp_path / "other"
    for path, content in ((one, b"ab"), (other, b"a")):
        path.write_bytes(content)
    rest, whole = tmp_path / "rest", tmp_path / "whole"
    rest.write_bytes(b"c")
    whole.write_bytes(b"bc")
    first = content_digest(image_set(paths=(str(one), str(rest))), tmp_path / "memory")
    assert content_digest(image_set(paths=(str(other), str(whole))), tmp_path / "memory") != first


def test_pixels_count_with_their_shape(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    changed = pixels.copy()
    changed[1, 3, 5, 2] ^= 1
    sets = [pixels, changed, pixels.reshape(2, 6, 4, 3)]
    assert len({content_digest(image_set(pixels=one), tmp_path / "memory") for one in sets}) == 3
    assert not (tmp_path / "memory").exists()
