"""A log that cannot be written says so once, and nothing else happens."""

import logging
from pathlib import Path

import pytest

from issl_engine.log_file import LogFile


@pytest.fixture
def log() -> logging.Logger:
    return logging.Logger("of this test")


def test_records_come_with_their_time(log: logging.Logger, tmp_path: Path) -> None:
    handler = LogFile(tmp_path / "log.txt")
    log.addHandler(handler)
    log.info("step %d", 3)
    handler.close()
    assert (tmp_path / "log.txt").read_text().endswith("INFO step 3\n")


@pytest.mark.parametrize("place", ["/dev/full", "/proc/version", "/nowhere/log.txt"])
def test_what_cannot_be_written_is_reported_once(
    place: str, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = LogFile(Path(place))
    log.addHandler(handler)
    for step in range(3):
        log.info("step %d", step)
    handler.close()
    errors = capsys.readouterr().err
    assert errors.count(f"warning: {place}: the log cannot be written") == 1
    assert "Logging error" not in errors
    assert len(errors.splitlines()) == 1
