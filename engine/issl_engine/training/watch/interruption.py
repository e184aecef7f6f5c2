"""SIGTERM and Ctrl-C become a question the loop asks between two steps, so that nothing is lost."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGTERM_SECONDS = 25.0
"""From SIGTERM to the end of the process, whatever it does: launchers and preemption kill after 30 s or more."""


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


class InterruptOnce:
    """A handler that raises Interrupted at the first signal; those after it would only disturb the cleaning up."""

    def __init__(self) -> None:
        self.is_spent = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.is_spent:
            return
        self.is_spent = True
        raise Interrupted(
            f"stopped by {signal.Signals(number).name} outside training; what was saved before is kept, and the same "
            "command goes on from there"
        )


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Collects SIGTERM and SIGINT while the block runs; the earlier handlers come back after it."""
    request = StopRequest()
    earlier = {number: signal.signal(number, request.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            if request and isinstance(handler, InterruptOnce):
                handler.is_spent = True
            signal.signal(number, handler)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises Interrupted, once, wherever the block is; a training loop inside it saves instead.

    After it the earlier handler comes back, but not once a SIGTERM came: another must not kill the process while it
    ends, whose exit code says that it was stopped.
    """
    handler = InterruptOnce()
    earlier = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        if not handler.is_spent:
            signal.signal(signal.SIGTERM, earlier)


@contextmanager
def end_after_notice(end: Callable[[], None]) -> Iterator[None]:
    """Calls ``end``, in a thread, SIGTERM_SECONDS after a SIGTERM that has not ended the block meanwhile.

    Python's handlers wait for the main thread, which may be in a collective, a compiler or a loader that hangs; the
    number of a signal comes through a pipe at once. SIGTERM must have a handler, as inside ``sigterm_interrupts``.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    closed = threading.Event()

    def watch() -> None:
        while (numbers := os.read(read, 64)) and signal.SIGTERM not in numbers:
            continue
        if numbers and not closed.wait(SIGTERM_SECONDS):
            end()
        os.close(read)

    earlier = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="notice", daemon=True).start()
    try:
        yield
    finally:
        closed.set()
        signal.set_wakeup_fd(earlier)
        os.close(write)
