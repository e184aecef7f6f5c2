"""Objectives whose target is an EMA teacher's output: how slowly that teacher follows."""

from typing import ClassVar

from issl_engine.objectives.base import Objective, ObjectiveConfig, Progress
from issl_engine.objectives.number_ranges import Momentum
from issl_engine.optim.schedules import cosine


class EmaObjectiveConfig(ObjectiveConfig):
    """Base of the Configs of objectives with an EMA teacher."""

    uses_ema_teacher: ClassVar[bool] = True


class EmaObjective(Objective):
    """An objective with an EMA teacher: a subclass has the ``projector`` that the teacher copies.

    ``forward`` gets the teacher's output of the global views.
    """

    uses_ema_teacher = True

    def __init__(self, start_momentum: Momentum) -> None:
        super().__init__()
        self.start_momentum = start_momentum

    def ema_momentum(self, progress: Progress) -> float:
        """Rises from ``start_momentum`` at the first step to 1 at the last, along half a cosine."""
        return cosine(self.start_momentum, 1.0, progress.fraction)
