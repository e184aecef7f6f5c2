"""BYOL (Grill et al. 2020, arXiv 2006.07733): predict an EMA teacher's projection of another view.

Letters: V views, the first G global; B images on this rank; D width of the representation, P of the
projection.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead
from issl_engine.objectives.base import Objective, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.cosine_regression import agreement
from issl_engine.objectives.ema_objective import EmaObjective, EmaObjectiveConfig
from issl_engine.objectives.number_ranges import Momentum, PositiveInt
from issl_engine.ranges import Choice, Range


class BYOLConfig(EmaObjectiveConfig):
    """A predictor behind the student's head; the EMA teacher sees the global views only."""

    name: Literal["byol"] = "byol"
    """Which objective this is."""
    ema_momentum: Momentum = 0.99
    """Share of the teacher's weights that is kept at the first step; rises to 1 along a cosine. 0.996 for
    1000 epochs."""
    hidden_dim: PositiveInt = 4096
    """Width of the hidden layer of head and predictor (batch-norm, ReLU)."""
    projection_dim: PositiveInt = 256
    """Width of the output of head and predictor."""

    has_predictor: ClassVar[bool] = True

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "ema_momentum": Choice((0.9, 0.97, 0.99, 0.996, 0.999)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        return BYOL(self, shape, group)


class BYOL(EmaObjective):
    """2 − 2·mean_{i≠j} cos(predictor(projector(z_j)), teacher_i): i global, j any other view; 0 to 4, not in
    nats.

    It has no collapse alarm: a collapsed representation has loss 0. Watch ``projection_std``, which then
    goes to 0.
    """

    diversity_advice = (
        "raise objective.ema_momentum, lower optimizer.lr, lengthen schedule.warmup_epochs or make "
        "training.global_batch_size larger"
    )
    projector: MLPHead

    def __init__(self, config: BYOLConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__(config.ema_momentum)
        self.group = group
        dim = config.projection_dim
        self.projector = MLPHead(shape.feature_dim, dim, hidden_dim=config.hidden_dim)
        self.predictor = MLPHead(dim, dim, hidden_dim=config.hidden_dim)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        assert teacher_GBP is not None, "BYOL needs the EMA teacher's projection"
        cosine, metrics = agreement(self.predictor(self.projector(z_VBD)), teacher_GBP, self.group)
        return ObjectiveOutput(2 - 2 * cosine, metrics)
