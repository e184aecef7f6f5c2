"""Says when a run has gone wrong: loss not finite, loss stuck at its collapse value."""

import logging
from collections import deque

_log = logging.getLogger("issl_engine")

WINDOW_STEPS = 100
TOLERANCE = 0.005


class TrainingStopped(ValueError):
    """The loss is not finite: one sentence with the step, the images and the last good checkpoint."""


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
