"""What a terminal shows while a run is under way: a live line on a terminal, plain log lines elsewhere."""

import logging
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from issl_engine.training.lines import OnLog

_log = logging.getLogger("issl_engine")

SECONDS_BETWEEN_LINES = 15.0


class TrainingDisplay:
    """Shows on stderr: loss, learning rate, images a second, shares of the time without data and on the host, and
    time left."""

    def __init__(self, *, quiet: bool) -> None:
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(), console=console, transient=True,
            )  # fmt: skip

    def __enter__(self) -> "TrainingDisplay":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, arm: str, seed: int) -> OnLog:
        """The callback for one arm's logged records."""
        name = f"{arm} (seed {seed})"
        _log.info("%s: starting", name)
        if self._bar is None:
            return _lines(name)
        bar, task = self._bar, self._bar.add_task(name, total=None, text="")

        def show(record: dict[str, float], total_steps: int) -> None:
            _update(bar, task, record, total_steps)

        return show


def _update(bar: Progress, task: TaskID, record: dict[str, float], total_steps: int) -> None:
    bar.update(task, total=total_steps, completed=record["step"], text=_describe(record))
    if record["step"] == total_steps:
        bar.remove_task(task)


def _lines(name: str) -> OnLog:
    last = 0.0

    def show(record: dict[str, float], total_steps: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES or record["step"] == total_steps:
            last = now
            _log.info("%s: step %d/%d %s", name, record["step"], total_steps, _describe(record))

    return show


def _describe(record: dict[str, float]) -> str:
    text = (
        f"epoch {record['epoch']:.1f} loss {record['loss']:.4f} lr {record['lr']:.2e} "
        f"{record['images_per_second']:.0f} images/s data {record['data_fraction']:.0%} "
        f"host {record['host_fraction']:.0%}"
    )
    if "online_top1" in record:
        text += f" online {record['online_top1']:.1f} %"
    return text
