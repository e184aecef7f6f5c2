"""What long commands say of their progress where there is no terminal."""

import logging

import pytest

from issl_engine.commands import display
from issl_engine.commands.display import CountingDisplay, describe_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_is_logged_after_the_first_seconds(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, logger="issl_engine"),
        CountingDisplay("packing", "images", quiet=False) as shown,
    ):
        for done in range(1000, 1201):  # a thousand were done by an earlier command
            shown.show(done, 100_000)
            clock[0] += 0.125
    assert caplog.messages == ["packing: 1040 of 100000 images, 8 per second; about 3.4 h left"]


def test_quick_work_says_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, logger="issl_engine"),
        CountingDisplay("packing", "images", quiet=False) as shown,
    ):
        for done in range(1, 40):
            clock[0] += 0.125
            shown.show(done, 40)
        clock[0] += 10
        shown.show(40, 40)
    assert caplog.messages == []


def test_estimates_are_rounded() -> None:
    assert [describe_seconds(seconds) for seconds in (42.3, 600, 9000)] == ["42 s", "10 min", "2.5 h"]
