"""Feature files: whole or not there, and damage is seen."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from issl_engine.probing.features.file import HEADER_BYTES, DamagedFileError, read_features, write_features

ROWS = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))


def batches() -> Iterator[Tensor]:
    yield from ROWS.split(16)


def written(folder: Path) -> Path:
    path = folder / "a.features"
    write_features(path, batches(), count=50, stored="float32", key={"encoder": "e"})
    return path


def test_the_rows_come_back_bit_for_bit(tmp_path: Path) -> None:
    assert torch.equal(read_features(written(tmp_path)), ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.features"]


def test_half_the_bytes_hold_the_rows_rounded(tmp_path: Path) -> None:
    path = tmp_path / "half.features"
    write_features(path, batches(), count=50, stored="float16", key={})
    rows = read_features(path)
    assert rows.dtype == torch.float16
    assert path.stat().st_size == HEADER_BYTES + 50 * 7 * 2
    assert torch.equal(rows, ROWS.half())


def test_a_number_too_large_for_half_is_reported_and_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too large for float16"):
        write_features(tmp_path / "a", iter([torch.full((2, 3), 1e6)]), count=2, stored="float16", key={})
    assert list(tmp_path.iterdir()) == []


def test_what_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Tensor]:
        yield ROWS[:16]
        raise RuntimeError("the encoder failed")

    with pytest.raises(RuntimeError, match="the encoder failed"):
        write_features(tmp_path / "a", broken(), count=50, stored="float32", key={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "sentence"),
    [(10, "header is damaged"), (200, "header is damaged"), (HEADER_BYTES + 5, "checksum"), (-1, "checksum")],
)
def test_a_turned_bit_is_seen(tmp_path: Path, place: int, sentence: str) -> None:
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=sentence):
        read_features(path)


@pytest.mark.parametrize("kept", [0, 100, HEADER_BYTES, HEADER_BYTES + 50 * 7 * 4 - 1])
def test_a_torn_file_is_seen(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFileError, match="header"):
        read_features(path)


def test_what_a_killed_process_left_is_cleared_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    import fcntl

    dead, living = tmp_path / ".a.features.1.partial", tmp_path / ".a.features.2.partial"
    dead.write_bytes(b"torn")
    living.write_bytes(b"half")
    with living.open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        written(tmp_path)
        assert not dead.exists()
        assert living.exists()


def test_a_disk_that_is_too_small_is_reported_before_it_is_full(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the features need .* GiB, and .* GiB are free; make room"):
        write_features(tmp_path / "a", iter([ROWS]), count=2**50, stored="float32", key={})
    assert list(tmp_path.iterdir()) == []
