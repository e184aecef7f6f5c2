"""SimSiam (Chen and He 2021, arXiv 2011.10566): predict another view's projection, with a stopped gradient.

Letters: V views, the first G global; B images on this rank; D width of the representation, P of the
projection.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.cosine_regression import agreement
from issl_engine.objectives.number_ranges import PositiveInt
from issl_engine.ranges import Multiples, Range


class SimSiamConfig(ObjectiveConfig):
    """BYOL without the EMA teacher: the target is the student's own projection, taken as a constant."""

    name: Literal["simsiam"] = "simsiam"
    """Which objective this is."""
    hidden_dim: PositiveInt = 2048
    """Width of the head's two hidden layers (batch-norm, ReLU)."""
    projection_dim: PositiveInt = 2048
    """Width of the head's output (batch-norm without gain and bias) and of the predictor's."""
    predictor_hidden_dim: PositiveInt = 512
    """Width of the predictor's hidden layer (batch-norm, ReLU)."""

    has_predictor: ClassVar[bool] = True

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "predictor_hidden_dim": Multiples((0.5, 1, 2)),
        "projection_dim": Multiples((0.5, 1, 2)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        return SimSiam(self, shape, group)


class SimSiam(Objective):
    """−mean_{i≠j} cos(predictor(p_j), p_i), p_i constant: i global, j any other view; −1 to 1, not in nats.

    It has no collapse alarm: a collapsed representation has loss −1. Watch ``projection_std``, which then
    goes to 0.
    """

    def __init__(self, config: SimSiamConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.num_global_views = shape.num_global_views
        self.group = group
        dim = config.projection_dim
        self.head = MLPHead(
            shape.feature_dim, dim, hidden_dim=config.hidden_dim, hidden_layers=2, batch_norm_out=True, scale_out=False
        )
        self.predictor = MLPHead(dim, dim, hidden_dim=config.predictor_hidden_dim)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        projections_VBP = self.head(z_VBD)
        targets_GBP = projections_VBP[: self.num_global_views]
        cosine, metrics = agreement(self.predictor(projections_VBP), targets_GBP, self.group)
        return ObjectiveOutput(-cosine, metrics)
