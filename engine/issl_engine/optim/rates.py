"""What an optimiser's groups are given before each step: learning rate and weight decay.

Both are pure functions of the step, so that a resumed run goes on with what it would have had.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from issl_engine.optim.base import OptimizerConfig
from issl_engine.optim.schedules import ScheduleConfig, cosine, learning_rate


@dataclass(frozen=True, kw_only=True)
class Rates:
    """``lr``: the schedule's learning rate at this step. ``peak_lr``: that of groups which do not follow the schedule;
    None for ``lr``. ``weight_decay``: that of weights which decay along a schedule; None leaves the groups' own."""

    lr: float
    peak_lr: float | None = None
    weight_decay: float | None = None

    def give(self, groups: Iterable[dict[str, Any]]) -> None:
        """Writes them into the optimiser's groups (``parameter_groups.py``)."""
        peak_lr = self.lr if self.peak_lr is None else self.peak_lr
        for group in groups:
            group["lr"] = (self.lr if group["follows_schedule"] else peak_lr) * group["lr_factor"]
            if self.weight_decay is not None and group["follows_decay_schedule"]:
                group["weight_decay"] = self.weight_decay


def rates_at(
    step: int, *, optimizer: OptimizerConfig, schedule: ScheduleConfig, peak_lr: float, steps_per_epoch: int,
    total_steps: int,
) -> Rates:  # fmt: skip
    """Of the update made when ``step`` updates are already done, 0 <= step < total_steps.

    The weight decay goes along half a cosine from the first step to ``total_steps``, without a warm-up (Caron et al.
    2021, arXiv 2104.14294).
    """
    lr = learning_rate(
        step, peak_lr=peak_lr, schedule=schedule, steps_per_epoch=steps_per_epoch, total_steps=total_steps
    )
    decay = None
    if optimizer.weight_decay_end is not None:
        decay = cosine(optimizer.weight_decay, optimizer.weight_decay_end, step / total_steps)
    return Rates(lr=lr, peak_lr=peak_lr, weight_decay=decay)
