"""How far a command is that goes through many images: a bar on a terminal, plain log lines elsewhere; on stderr."""

import logging
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_log = logging.getLogger("issl_engine")

FIRST_LINE_SECONDS = 5.0
"""Whoever is done by then is told nothing; the others, how long it will take."""
SECONDS_BETWEEN_LINES = 60.0


class CountingDisplay:
    """Shows images done, images a second, and the time left. ``unit`` is what is counted, ``doing`` what is done."""

    def __init__(self, doing: str, unit: str, *, quiet: bool) -> None:
        self.doing, self.unit = doing, unit
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(doing, total=None, rate="")
        self._first = 0
        self._started = self._next_line = 0.0

    def __enter__(self) -> "CountingDisplay":
        self._started = time.monotonic()
        self._next_line = self._started + FIRST_LINE_SECONDS
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """To be called after each image; ``done`` of the first call may be the work of an earlier command."""
        now = time.monotonic()
        if not self._first:
            self._first, self._started = done, now
        if now < self._next_line and self._bar is None:
            return
        rate = (done - self._first) / max(now - self._started, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, total=total, completed=done, rate=f"{rate:.0f} {self.unit}/s")
        elif done < total and done > self._first:
            self._next_line = now + SECONDS_BETWEEN_LINES
            left = describe_seconds((total - done) / rate)
            _log.info("%s: %d of %d %s, %.0f a second; about %s left", self.doing, done, total, self.unit, rate, left)


def describe_seconds(seconds: float) -> str:
    """To the precision that an estimate has."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
