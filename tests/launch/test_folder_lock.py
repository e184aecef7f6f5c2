"""One run per folder: the second learns who is at work there, before anything is started or written."""

import errno
import fcntl
import json
import logging
import os
import re
from pathlib import Path

import pytest

from issl_engine.launch.folder_lock import check_folder_is_free, locked_folder
from issl_engine.ranks import start_ranks


def test_the_holder_is_named_with_host_process_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISSL_HOST", "node7")
    with locked_folder(tmp_path / "run", start_ranks(), "auto"):
        since = json.loads((tmp_path / "run" / ".lock").read_text())["since"]
        sentence = re.escape(f"another run is at work in this folder (process {os.getpid()} on node7, since {since})")
        with pytest.raises(ValueError, match=sentence):
            check_folder_is_free(tmp_path / "run", "auto")
        with (
            pytest.raises(ValueError, match=sentence),
            locked_folder(tmp_path / "run", start_ranks(), "auto"),
        ):
            pass
    check_folder_is_free(tmp_path / "run", "auto")


def test_asking_makes_nothing(tmp_path: Path) -> None:
    check_folder_is_free(tmp_path / "run", "auto")
    check_folder_is_free(tmp_path / "run", "never")
    assert not (tmp_path / "run").exists()


def test_asking_does_not_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked_folder(tmp_path, start_ranks(), "auto"):
        signed = (tmp_path / ".lock").read_text()
    monkeypatch.setenv("ISSL_HOST", "another")
    check_folder_is_free(tmp_path, "auto")
    assert (tmp_path / ".lock").read_text() == signed


def test_a_run_that_is_there_is_refused_when_asked_to(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="a run is here already"):
        check_folder_is_free(tmp_path, "never")
    check_folder_is_free(tmp_path, "auto")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with caplog.at_level(logging.WARNING, logger="issl_engine"), locked_folder(tmp_path, start_ranks(), "auto"):
        pass
    (record,) = caplog.records
    assert "this file system cannot lock files (No locks available)" in record.getMessage()
