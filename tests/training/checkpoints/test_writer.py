"""A checkpoint is there whole or not at all, whatever goes wrong on the way."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from issl_engine.training.checkpoints import writer
from issl_engine.training.checkpoints.verify import verify_checkpoint
from issl_engine.training.checkpoints.writer import remove_left_overs

from .conftest import make, start


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to write files beyond this size: as real as a full disk, and it ends with the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_first_rank_completes_once_every_rank_has_written(tmp_path: Path) -> None:
    first = start(tmp_path, 5, rank=0, world_size=2)
    first.written.wait()
    first.join(0.2)
    assert not first.is_done
    assert not first.target.exists()
    second = start(tmp_path, 5, rank=1, world_size=2)
    first.join()
    second.join()
    manifest = verify_checkpoint(first.target)
    assert {"rank0000.safetensors", "rank0001.safetensors", "encoder.safetensors"} <= manifest.files.keys()
    assert {path.name for path in first.target.iterdir()} == {*manifest.files, "manifest.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005"]


def test_a_rank_that_never_writes_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    first = start(tmp_path, 5, rank=0, world_size=2)
    first.written.wait()
    first.cancel()
    assert first.is_done
    assert not first.failed
    assert not first.target.exists()


def test_files_that_the_first_rank_cannot_see_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SECONDS_UNTIL_SEEN", 0.0)
    first = start(tmp_path / "here", 5, rank=0, world_size=2)
    start(tmp_path / "there", 5, rank=1, world_size=2).join()
    first.written.wait()
    first.all_have_written()
    first.join()
    assert "rank 1 has written its part, but the first rank does not see it" in str(first.error)
    assert not first.target.exists()


def test_a_file_that_cannot_be_written_is_an_error_and_the_one_before_stays(tmp_path: Path) -> None:
    before = make(tmp_path, 5)
    with largest_file(100):
        write = start(tmp_path, 10)
        write.join()
    assert isinstance(write.error, OSError)
    assert write.error.strerror == "File too large"
    assert write.written.is_set()
    assert not write.target.exists()
    verify_checkpoint(before)


def test_a_damaged_one_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    damaged = make(tmp_path, 5)
    (damaged / "manifest.json").write_text("{")
    (damaged / "stranger").touch()
    assert make(tmp_path, 5) == damaged
    verify_checkpoint(damaged)
    assert not (damaged / "stranger").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_run_left_is_removed_and_checkpoints_stay(tmp_path: Path) -> None:
    kept = make(tmp_path, 5)
    for name in (".partial_step_00000010", ".discarded_step_00000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "encoder.safetensors").write_bytes(b"half")
    (tmp_path / ".other").mkdir()
    assert len(remove_left_overs(tmp_path)) == 2
    assert {path.name for path in tmp_path.iterdir()} == {kept.name, ".other"}


def test_the_limit_of_these_tests_is_lifted_again(tmp_path: Path) -> None:
    with largest_file(10), pytest.raises(OSError, match="File too large"):
        (tmp_path / "x").write_bytes(bytes(100))
    (tmp_path / "x").write_bytes(bytes(100))
