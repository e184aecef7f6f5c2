"""Signals ask for a stop; only an impatient second Ctrl-C forces it."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
import torch.distributed as dist

from issl_engine.training.watch import interruption
from issl_engine.training.watch.interruption import Interrupted, end_after_notice, sigterm_interrupts, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_earlier_handlers_come_back(number: signal.Signals) -> None:
    earlier = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal_name == number.name
    assert signal.getsignal(number) == earlier


def test_a_second_sigterm_is_the_same_request() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_name == "SIGTERM"


def test_a_second_ctrl_c_stops_at_once() -> None:
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def _handler_comes_back() -> Iterator[None]:
    earlier = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, earlier)


@pytest.mark.usefixtures("_handler_comes_back")
def test_outside_training_the_first_sigterm_interrupts_and_a_second_does_not_disturb_the_cleaning_up() -> None:
    cleaned = False

    def work() -> None:
        nonlocal cleaned
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned = True

    with pytest.raises(Interrupted, match="stopped by SIGTERM outside training"), sigterm_interrupts():
        work()
    assert cleaned
    os.kill(os.getpid(), signal.SIGTERM)  # while the process ends


@pytest.mark.usefixtures("_handler_comes_back")
def test_a_second_sigterm_after_training_has_stopped_is_harmless() -> None:
    with sigterm_interrupts():
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # while views and checkpoints are closed
        assert stop


@pytest.mark.usefixtures("_handler_comes_back")
def test_a_main_thread_that_hangs_in_c_is_ended_after_the_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SIGTERM_SECONDS", 0.2)
    ended, began = threading.Event(), time.monotonic()
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
    with suppress(Interrupted, dist.DistStoreError), sigterm_interrupts(), end_after_notice(ended.set):
        dist.HashStore().wait(["never"], timedelta(seconds=1))  # as a collective: no handler runs meanwhile
    assert time.monotonic() - began > 0.9
    assert ended.is_set()


@pytest.mark.usefixtures("_handler_comes_back")
def test_a_main_thread_that_stops_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SIGTERM_SECONDS", 0.2)
    ended = threading.Event()
    with pytest.raises(Interrupted), sigterm_interrupts(), end_after_notice(ended.set):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not ended.wait(0.4)
    with sigterm_interrupts(), end_after_notice(ended.set):
        pass
    assert not ended.is_set()
