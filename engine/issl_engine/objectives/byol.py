"""BYOL (Grill et al. 2020): predict an EMA teacher's projection of another view.

Letters: V views, G global; B images on this rank; P width of a projection.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from issl_engine.models.heads import Head, mlp_head
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.optim.schedules import cosine


class BYOLConfig(ObjectiveConfig):
    """2 − 2 cos between the prediction from one view and the EMA teacher's projection of another."""

    name: Literal["byol"] = "byol"
    ema_momentum: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Share of the teacher's weights kept at step 0; rises to 1 along a cosine."""
    hidden_dim: Annotated[int, Field(ge=1)] = 4096
    """Width of the hidden layer of projector and predictor."""
    projection_dim: Annotated[int, Field(ge=1)] = 256
    """Width of the projections."""

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> "BYOL":
        return BYOL(self, shape, group)


class BYOL(Objective):
    """z [V, B, D] and the teacher's projections [G, B, P] → loss between 0 and 4: a mean over this rank's images, so
    averaging gradients over ranks gives the global batch's."""

    uses_ema_teacher = True

    def __init__(self, config: BYOLConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        if shape.num_views < 2:
            raise ValueError("objective byol compares views: views.groups must give at least 2 crops an image")
        self.config = config
        self.projector: Head = mlp_head(shape.feature_dim, config.hidden_dim, config.projection_dim)
        self.predictor = mlp_head(config.projection_dim, config.hidden_dim, config.projection_dim)

    def ema_momentum(self, progress: Progress) -> float:
        return cosine(self.config.ema_momentum, 1.0, progress.fraction)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        assert teacher_GBP is not None
        predicted_VBP = F.normalize(self.predictor(self.projector(z_VBD)).float(), dim=-1)
        targets_GBP = F.normalize(teacher_GBP.detach().float(), dim=-1)
        cosines = [
            (predicted_VBP[j] * targets_GBP[i]).sum(-1).mean()
            for i in range(len(targets_GBP))
            for j in range(len(predicted_VBP))
            if i != j
        ]
        cosine_mean = torch.stack(cosines).mean()
        return ObjectiveOutput(2 - 2 * cosine_mean, {"cosine": cosine_mean.detach()})
