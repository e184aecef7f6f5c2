"""Images inside larger files: read one by one or many, also from more files than may be open."""

import os
from pathlib import Path

import numpy as np
import pytest

from issl_engine.sources import byte_ranges
from issl_engine.sources.byte_ranges import ByteRanges, file_stamp


@pytest.fixture
def ranges(tmp_path: Path) -> ByteRanges:
    """Six of three bytes each, two per file."""
    files = []
    for number in range(3):
        files.append(str(tmp_path / f"{number}.bin"))
        Path(files[-1]).write_bytes(b"-" * number + f"a{number}xb{number}x".encode())
    return ByteRanges(
        files=tuple(files),
        file_of=np.repeat(np.arange(3, dtype=np.int32), 2),
        starts=np.array([0, 3, 1, 4, 2, 5]),
        lengths=np.full(6, 3),
        names=tuple("abcdef"),
        stamps=tuple(map(file_stamp, files)),
    )


@pytest.mark.parametrize("open_at_most", [1, 128])
def test_many_are_read_in_the_order_asked_for(
    ranges: ByteRanges, open_at_most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_ranges, "OPEN_AT_MOST", open_at_most)
    wanted = np.array([5, 0, 2, 2, 1])
    assert ranges.read_many(wanted) == [b"b2x", b"a0x", b"a1x", b"a1x", b"b0x"]
    assert ranges.read_many(wanted) == [ranges.read(index) for index in wanted.tolist()]


def test_the_disk_is_asked_for_all_before_the_first_is_read(
    ranges: ByteRanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int, int]] = []
    advise, read = os.posix_fadvise, os.pread

    def recorded_advice(descriptor: int, start: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        calls.append(("announced", start, length))
        advise(descriptor, start, length, advice)

    def recorded_read(descriptor: int, length: int, start: int) -> bytes:
        calls.append(("read", start, length))
        return read(descriptor, length, start)

    monkeypatch.setattr(os, "posix_fadvise", recorded_advice)
    monkeypatch.setattr(os, "pread", recorded_read)
    ranges.read_many(np.array([4, 3]))
    assert calls == [("announced", 2, 3), ("announced", 4, 3), ("read", 2, 3), ("read", 4, 3)]
