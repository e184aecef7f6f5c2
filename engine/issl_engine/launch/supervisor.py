"""Waits for all ranks: passes signals on, and when one fails says which and why, once, and ends the others."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from issl_engine.launch.failure import INTERRUPTED_EXIT_CODE, Failure, describe, root_cause
from issl_engine.launch.local_ranks import Ended, RankGroup

POLL_SECONDS = 0.05
SETTLE_SECONDS = 1.5
"""After the first failure, for the other ranks to say what they saw: the first to end need not be the cause."""
TERMINATE_SECONDS = 2.0
"""From SIGTERM to SIGKILL."""
STOP_SECONDS = 30.0
"""After a stop was asked for and the first rank has left, for the others to leave too."""
FORCED_SIGNALS = 3
"""So many signals, and ranks are ended without saving."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the ranks ended. ``message`` is None where all went well."""

    exit_code: int
    message: str | None


def supervise(groups: Sequence[RankGroup], world_size: int) -> Outcome:
    """Returns when no rank is left; forwards SIGTERM and SIGINT, after which ranks save and stop."""
    with _collected_signals() as signals:
        watch = _Watch(groups, world_size, signals)
        try:
            while any(group.alive for group in groups):
                watch.look()
                time.sleep(POLL_SECONDS)
            watch.look()
        finally:
            for group in groups:
                group.close()
        return watch.outcome()


class _Watch:
    """What was seen of the ranks so far, and what is to be done about it."""

    def __init__(self, groups: Sequence[RankGroup], world_size: int, signals: list[int]) -> None:
        self.groups, self.world_size, self.signals = groups, world_size, signals
        self.forwarded = 0
        self.failures: list[Failure] = []
        self.ending = False
        self.next_measure_at: float | None = None

    @property
    def stop_asked(self) -> bool:
        return self.forwarded > 0

    def look(self) -> None:
        """One look: signals passed on, ends noted, and the next measure against what is left, if it is due."""
        while self.forwarded < len(self.signals):
            self._send(self.signals[self.forwarded])
            self.forwarded += 1
        for group in self.groups:
            for ended in group.take_ended():
                self._note(ended)
        now = time.monotonic()
        if self.forwarded >= FORCED_SIGNALS:
            self.next_measure_at, self.ending = now, True
        if self.next_measure_at is not None and now >= self.next_measure_at:
            self._send(signal.SIGKILL if self.ending else signal.SIGTERM)
            self.ending, self.next_measure_at = True, now + TERMINATE_SECONDS

    def _note(self, ended: Ended) -> None:
        if ended.failure is None:
            return
        if not (self.ending and ended.failure.kind == "ended"):  # then it is this supervisor that ended it
            self.failures.append(ended.failure)
        if self.next_measure_at is None:
            self.next_measure_at = time.monotonic() + (STOP_SECONDS if self.stop_asked else SETTLE_SECONDS)

    def _send(self, number: int) -> None:
        for group in self.groups:
            group.send_signal(number)

    def outcome(self) -> Outcome:
        if not self.failures and not self.ending:
            return Outcome(exit_code=0, message=None)
        if self.stop_asked:
            cause = _cause_of_stop(self.failures)
            if cause is None:
                name = signal.Signals(self.signals[0]).name
                message = f"stopped by {name} before anything new could be saved; what was saved earlier is kept"
                return Outcome(exit_code=INTERRUPTED_EXIT_CODE, message=message)
        else:
            cause = root_cause(self.failures)
        if cause.kind == "interrupted":
            return Outcome(exit_code=INTERRUPTED_EXIT_CODE, message=cause.sentence)
        return Outcome(exit_code=1, message=describe(cause, self.failures, self.world_size))


def _cause_of_stop(failures: Sequence[Failure]) -> Failure | None:
    """After a stop was asked for: a real mistake first, then the saved stop; a bare end is the signal's own work."""
    reported = [failure for failure in failures if failure.kind in ("mistake", "defect")]
    reported = reported or [failure for failure in failures if failure.kind == "interrupted"]
    return root_cause(reported) if reported else None


@contextmanager
def _collected_signals() -> Iterator[list[int]]:
    """The numbers of the SIGTERMs and SIGINTs that came while the block runs."""
    came: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        came.append(number)

    earlier = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
