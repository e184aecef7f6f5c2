"""The logged lines of a training: every rank makes them at the same steps, and the first writes them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from issl_engine.objectives.base import Progress
from issl_engine.optim.rates import Rates
from issl_engine.training.build import Training
from issl_engine.training.metrics import MetricsLog
from issl_engine.training.step import StepResult
from issl_engine.training.watch.balance import Interval
from issl_engine.training.watch.watcher import Line, Watcher

OnLog = Callable[[dict[str, float], int], None]
"""Called with each logged record and the total number of steps: the progress display."""


class Lines:
    """``add`` takes every step, made inside ``with lines.step_timer``; ``write`` makes a line of those since the last.

    ``began``: the time, by time.perf_counter, at which the run would have begun had it never been interrupted.
    """

    def __init__(
        self, training: Training, watchers: Watcher, *, folder: Path, first_step: int, began: float,
        on_log: OnLog | None,
    ) -> None:  # fmt: skip
        self._training, self._watchers, self._began, self._on_log = training, watchers, began, on_log
        ranks = training.ranks
        self._log = MetricsLog(folder, resume_step=first_step) if ranks.is_first else None
        self._interval = Interval(training.recipe.training.global_batch_size, ranks.device)
        self.step_timer = self._interval.step_timer

    @property
    def seconds(self) -> float:
        """Of training so far, interruptions left out."""
        return time.perf_counter() - self._began

    def add(self, result: StepResult) -> None:
        """One step; its numbers stay on the device until a line is due."""
        self._interval.add(result.loss, result.data_seconds, result.skipped)

    def write(self, done: Progress, result: StepResult, rates: Rates) -> None:
        """Here the host waits for the device, and reads what has gathered there since the last line. Every rank must
        call it; raises Mistake where the line cannot be written."""
        interval = self._interval
        line = Line(done=done, result=result, data_seconds=interval.data_seconds, is_empty=interval.all_skipped())
        self._watchers.line_due(line)
        if line.is_empty:
            return  # the next line counts these steps too
        skipped = int(interval.skipped)
        record: dict[str, Any] = interval.close(done, rates.lr)
        if rates.weight_decay is not None:
            record["weight_decay"] = rates.weight_decay
        measured = self._watchers.measures(line)
        if self._log is None:
            return
        record |= self._of_the_run(result, skipped) | measured
        self._watchers.line_made(record)
        self._log.write(record)
        if self._on_log is not None:
            self._on_log(record, done.total_steps)

    def _of_the_run(self, result: StepResult, skipped: int) -> dict[str, Any]:
        """What a line says beside its interval; the metrics are those of its last step, if that was made."""
        keys: dict[str, Any] = {"seconds": self.seconds}
        collapse_loss = self._training.learner.objective.collapse_loss
        if collapse_loss is not None:
            keys["collapse_loss"] = collapse_loss
        if self._training.recipe.training.on_non_finite == "skip":
            keys["skipped_steps"] = skipped
        if not float(result.skipped):
            keys |= {name: float(value) for name, value in result.metrics.items()}
        return keys

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
