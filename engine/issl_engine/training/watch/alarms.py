"""Says when a run has gone wrong: loss stuck at its collapse value, steps left out, data late."""

import logging
import math
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from issl_engine.objectives.base import Objective, Progress
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import DataConfig
from issl_engine.training.guard import StepGuard
from issl_engine.training.watch.watcher import Line, Watcher

if TYPE_CHECKING:  # alarms need no DeepSpeed
    from issl_engine.training.step import StepResult

_log = logging.getLogger("issl_engine")

WINDOW_STEPS = 100
TOLERANCE = 0.005
SLOW_DATA_FRACTION = 0.1
SLOW_DATA_INTERVALS = 3


class CollapseAlarm(Watcher):
    """Warns once when the last 100 losses all lie within 0.5 % of the value that a collapsed representation gives.

    ``metric``: what is watched instead of the loss, such as DISSL's conditional entropy, which a representation that
    says nothing keeps at ln C.
    """

    def __init__(self, collapse_loss: float | None, advice: str, *, metric: str = "loss") -> None:
        self.collapse_loss = collapse_loss
        self.advice = advice
        self.metric = metric
        self.recent: deque[float] = deque(maxlen=WINDOW_STEPS)
        self.raised = False
        self._unread: list[tuple[int, Tensor]] = []

    def step_done(self, done: Progress, result: "StepResult") -> None:
        if done.epoch > 1:  # before, frozen prototypes and warm-up keep a healthy loss near that value
            self.note(self.watched(result.metrics, result.loss), done.step)

    def line_due(self, line: Line) -> None:
        self.review()

    def watched(self, metrics: Mapping[str, Tensor], loss: Tensor) -> Tensor:
        """Of one step's numbers the one to ``note``: regularisers are part of the loss, and of no collapse value."""
        return metrics.get(self.metric, metrics.get("objective_loss", loss))

    def note(self, loss: Tensor, step: int) -> None:
        """Keeps one step's loss on its device until ``review``."""
        self._unread.append((step, loss))

    def review(self) -> None:
        """Observes the noted losses in their order, those that are not finite left out; waits for the device."""
        if self._unread:
            steps, losses = zip(*self._unread, strict=True)
            for step, loss in zip(steps, torch.stack(losses).tolist(), strict=True):
                if math.isfinite(loss):
                    self.observe(loss, step)
        self._unread = []

    def observe(self, loss: float, step: int) -> bool:
        """Takes one step's loss; True when the alarm is raised by it."""
        self.recent.append(loss)
        if self.collapse_loss is None or self.raised or len(self.recent) < WINDOW_STEPS:
            return False
        if any(abs(value - self.collapse_loss) > TOLERANCE * abs(self.collapse_loss) for value in self.recent):
            return False
        self.raised = True
        _log.warning(
            "step %d: the %s has been at its collapse value %.4f for %d steps, so the representation is not "
            "learning; %s",
            step,
            self.metric.replace("_", " "),
            self.collapse_loss,
            WINDOW_STEPS,
            self.advice,
        )
        return True


def collapse_alarm(objective: Objective) -> CollapseAlarm:
    """Watches the objective's loss, or the metric that says more."""
    if objective.uninformed_metric is None:
        return CollapseAlarm(objective.collapse_loss, objective.collapse_advice)
    metric, value = objective.uninformed_metric
    return CollapseAlarm(value, objective.diversity_advice, metric=metric)


class SkippedSteps(Watcher):
    """Says at a line how many steps were left out since the last, as their loss or gradients were not finite; the guard
    itself says so of the first."""

    def __init__(self, guard: StepGuard, ranks: Ranks) -> None:
        self.guard, self.ranks = guard, ranks

    def line_due(self, line: Line) -> None:
        more = self.guard.take_skipped()
        if more and self.ranks.is_first:
            _log.warning(
                "step %d: %d more steps were left out, as loss or gradients were not finite", line.done.step, more
            )


class DataAlarm(Watcher):
    """Warns once when over three logged lines in a row more than a tenth of the time went by without data."""

    def __init__(self, data: DataConfig) -> None:
        self.data = data
        self.slow_intervals = 0
        self.raised = False

    def line_made(self, record: Mapping[str, Any]) -> None:
        self.observe(record["data_fraction"], record["step"])

    def observe(self, data_fraction: float, step: int) -> bool:
        """Takes one interval's share of time without data; True when the alarm is raised by it."""
        self.slow_intervals = self.slow_intervals + 1 if data_fraction > SLOW_DATA_FRACTION else 0
        if self.raised or self.slow_intervals < SLOW_DATA_INTERVALS:
            return False
        self.raised = True
        _log.warning(
            "step %d: training waits for data %.0f %% of the time; issl-engine bench data RECIPE measures what would "
            "help (data.decode_threads is %d, data.prefetch_batches %d)",
            step, 100 * data_fraction, self.data.decode_threads, self.data.prefetch_batches,
        )  # fmt: skip
        return True
