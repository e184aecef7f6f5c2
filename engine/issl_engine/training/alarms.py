"""Says when a run has gone wrong: loss not finite, loss stuck at its collapse value."""

import logging
import math
from collections import deque

from torch import Tensor

from issl_engine.objectives.base import Progress
from issl_engine.recipe.schema import DataConfig
from issl_engine.training.deepspeed import Ranks

_log = logging.getLogger("issl_engine")

WINDOW_STEPS = 100
TOLERANCE = 0.005
SLOW_DATA_FRACTION = 0.1
SLOW_DATA_INTERVALS = 3


class TrainingStopped(ValueError):
    """The loss is not finite: one sentence with the step, the images and the last good checkpoint."""


def check_finite(loss: Tensor, ids_B: Tensor, progress: Progress, ranks: Ranks) -> None:
    """Raises TrainingStopped on all ranks when the loss of any is not finite; ``ids_B`` are the images it saw here."""
    finite = math.isfinite(loss.item())
    if not ranks.any(not finite):
        return
    ids = ", ".join(str(i) for i in ids_B[:16].tolist()) + (", ..." if len(ids_B) > 16 else "")
    where = f"on rank {ranks.rank} " if ranks.world_size > 1 else ""
    raise TrainingStopped(
        f"step {progress.step}: the loss is {loss.item()} {where}for the images with ids {ids}; no weight was changed"
    )


class CollapseAlarm:
    """Warns once when the last 100 losses all lie within 0.5 % of the value that a collapsed representation gives."""

    def __init__(self, collapse_loss: float | None, advice: str) -> None:
        self.collapse_loss = collapse_loss
        self.advice = advice
        self.recent: deque[float] = deque(maxlen=WINDOW_STEPS)
        self.raised = False

    def observe(self, loss: float, step: int) -> bool:
        """Takes one step's loss; True when the alarm is raised by it."""
        self.recent.append(loss)
        if self.collapse_loss is None or self.raised or len(self.recent) < WINDOW_STEPS:
            return False
        if any(abs(value - self.collapse_loss) > TOLERANCE * self.collapse_loss for value in self.recent):
            return False
        self.raised = True
        _log.warning(
            "step %d: the loss has been at its collapse value %.4f for %d steps, so the representation is not "
            "learning; %s",
            step,
            self.collapse_loss,
            WINDOW_STEPS,
            self.advice,
        )
        return True


class DataAlarm:
    """Warns once when over three logged lines in a row more than a tenth of the time went by without data."""

    def __init__(self, data: DataConfig) -> None:
        self.data = data
        self.slow_intervals = 0
        self.raised = False

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
