"""Signals ask for a stop; only an impatient second Ctrl-C forces it."""

import os
import signal

import pytest

from issl_engine.training.interruption import stop_on_signals


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
