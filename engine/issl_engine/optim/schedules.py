"""Learning rate and other values over the steps of a run, as pure functions of the step.

A schedule has no state to save: a resumed run asks for the value at its step and gets what it would have had.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from issl_engine.config import Config
from issl_engine.mistakes import Mistake

Share = Annotated[float, Field(ge=0, le=1)]


class ScheduleConfig(Config):
    """Linear warm-up to the peak learning rate, then a cosine down to its end value (or the peak held)."""

    shape: Literal["cosine", "constant"] = "cosine"
    """What follows the warm-up: half a cosine from the peak down, or the peak held to the end."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs of linear warm-up; fractions are allowed. Published runs of 100 epochs and more take 10."""
    warmup_start_factor: Share = 0.0
    """Share of the peak at step 0, when there is a warm-up (SwAV starts at 0.3 of 4.8: 0.0625)."""
    final_factor: Share = 0.0
    """Share of the peak at the end of the cosine (SwAV ends at 0.0048 of 4.8: 0.001)."""

    @model_validator(mode="after")
    def _final_factor_is_used(self) -> Self:
        if self.shape == "constant" and self.final_factor != 0:
            raise Mistake(
                f"final_factor ({self.final_factor}) has no effect with shape 'constant'; "
                "leave it out or take shape 'cosine'"
            )
        return self

    def warmup_steps(self, steps_per_epoch: int) -> int:
        """Length of the warm-up in optimiser steps."""
        return round(self.warmup_epochs * steps_per_epoch)


def check_schedule(schedule: ScheduleConfig, *, steps_per_epoch: int, total_steps: int) -> None:
    """Raises Mistake when the warm-up is as long as the run or longer. Call once, when steps are known."""
    warmup_steps = schedule.warmup_steps(steps_per_epoch)
    if warmup_steps >= total_steps:
        raise Mistake(
            f"schedule.warmup_epochs ({schedule.warmup_epochs:g}, that is {warmup_steps} steps) must be "
            f"shorter than the run ({total_steps} steps); lower it or raise training.epochs"
        )


def learning_rate(
    step: int, *, peak_lr: float, schedule: ScheduleConfig, steps_per_epoch: int, total_steps: int
) -> float:
    """Learning rate of the update made when ``step`` updates are already done, 0 <= step <= total_steps.

    The warm-up starts at step 0 and reaches the peak at step ``warmup_steps``; the cosine starts there and
    would reach its end value at ``total_steps``, so the last update still moves weights when that is zero.
    The schedule must have passed ``check_schedule``.
    """
    assert 0 <= step <= total_steps, (step, total_steps)
    warmup_steps = schedule.warmup_steps(steps_per_epoch)
    if step < warmup_steps:
        start = schedule.warmup_start_factor
        return peak_lr * (start + (1 - start) * step / warmup_steps)
    if schedule.shape == "constant":
        return peak_lr
    fraction = (step - warmup_steps) / (total_steps - warmup_steps)
    return peak_lr * cosine(1.0, schedule.final_factor, fraction)


def cosine(start: float, end: float, fraction: float) -> float:
    """Half a cosine from ``start`` (fraction 0) to ``end`` (fraction 1), steepest in the middle."""
    assert 0 <= fraction <= 1, fraction
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
