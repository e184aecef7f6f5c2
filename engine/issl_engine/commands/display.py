"""What the terminal shows while a command works, on stderr: a bar on a terminal, plain log lines elsewhere."""

import logging
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from issl_engine.training.lines import OnLog

_log = logging.getLogger("issl_engine")

FIRST_LINE_SECONDS = 5.0
"""A command that counts and is done by then logs nothing; a longer one logs how long it will take."""
SECONDS_BETWEEN_COUNTS = 60.0
SECONDS_BETWEEN_STEPS = 15.0


class _Display:
    """A bar where stderr is a terminal and the user wants it, shown between entry and exit; None elsewhere."""

    def __init__(self, *columns: ProgressColumn, quiet: bool) -> None:
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            shown = (TextColumn("{task.description}"), BarColumn(bar_width=24), *columns, TimeRemainingColumn())
            self._bar = Progress(*shown, console=console, transient=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


class CountingDisplay(_Display):
    """Shows images done, images per second, and the time left. ``unit`` is what is counted, ``doing`` what is done."""

    def __init__(self, doing: str, unit: str, *, quiet: bool) -> None:
        super().__init__(MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), quiet=quiet)
        self.doing, self.unit = doing, unit
        if self._bar is not None:
            self._task = self._bar.add_task(doing, total=None, rate="")
        self._first = 0
        self._started = self._next_line = 0.0

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._next_line = self._started + FIRST_LINE_SECONDS
        return super().__enter__()

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
            self._next_line = now + SECONDS_BETWEEN_COUNTS
            left = describe_seconds((total - done) / rate)
            _log.info("%s: %d of %d %s, %.0f per second; about %s left", self.doing, done, total, self.unit, rate, left)


def describe_seconds(seconds: float) -> str:
    """To the precision that an estimate has."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


class TrainingDisplay(_Display):
    """Shows the loss, the learning rate, images per second and the time left.

    It also shows two shares of the time: without data, and on the host.
    """

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(TextColumn("{task.fields[text]}"), quiet=quiet)

    def start(self, arm: str, seed: int) -> "OnLog":
        """The callback for one arm's logged records."""
        name = f"{arm} (seed {seed})"
        _log.info("%s: starting", name)
        if self._bar is None:
            return _step_lines(name)
        bar, task = self._bar, self._bar.add_task(name, total=None, text="")

        def show(record: dict[str, float], total_steps: int) -> None:
            _update(bar, task, record, total_steps)

        return show


def _update(bar: Progress, task: TaskID, record: dict[str, float], total_steps: int) -> None:
    bar.update(task, total=total_steps, completed=record["step"], text=_describe_step(record))
    if record["step"] == total_steps:
        bar.remove_task(task)


def _step_lines(name: str) -> "OnLog":
    last = 0.0

    def show(record: dict[str, float], total_steps: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_STEPS or record["step"] == total_steps:
            last = now
            _log.info("%s: step %d/%d %s", name, record["step"], total_steps, _describe_step(record))

    return show


def _describe_step(record: dict[str, float]) -> str:
    text = (
        f"epoch {record['epoch']:.1f} loss {record['loss']:.4f} lr {record['lr']:.2e} "
        f"{record['images_per_second']:.0f} images/s data {record['data_fraction']:.0%} "
        f"host {record['host_fraction']:.0%}"
    )
    if "online_top1" in record:
        text += f" online {record['online_top1']:.1f} %"
    return text
