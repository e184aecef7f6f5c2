"""SIGTERM and Ctrl-C become a question the loop asks between two steps, so that nothing is lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """Training was asked to stop, and has saved."""


class StopRequest:
    """Whether a stop was asked for. A second Ctrl-C stops at once, as an impatient user expects; a second SIGTERM does
    not, since launchers send it to the process and to its group."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Collects SIGTERM and SIGINT while the block runs; the earlier handlers come back after it."""
    request = StopRequest()
    earlier = {number: signal.signal(number, request.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
