"""Barlow Twins (Zbontar et al. 2021): the views' cross-correlation becomes the identity."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import mlp_head
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.view_pairs import view_pairs
from issl_kernels import cross_correlation


class BarlowTwinsConfig(ObjectiveConfig):
    """Redundancy reduction; with more than two views, the mean over pairs of a global and another view."""

    name: Literal["barlow_twins"] = "barlow_twins"
    off_diagonal_weight: Annotated[float, Field(ge=0)] = 0.005
    """Weight λ of the off-diagonal entries."""
    hidden_dim: Annotated[int, Field(ge=1)] = 8192
    """Width of the head's two hidden layers."""
    projection_dim: Annotated[int, Field(ge=1)] = 8192
    """Width D of the projections; the correlation is D x D."""

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> "BarlowTwins":
        return BarlowTwins(self, shape, group)


class BarlowTwins(Objective):
    """z [V, B, D] → loss (no unit)."""

    def __init__(self, config: BarlowTwinsConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.config, self.group = config, group
        self.pairs = view_pairs(shape.num_views, shape.num_global_views, "barlow_twins")
        self.head = mlp_head(shape.feature_dim, config.hidden_dim, config.projection_dim, hidden_layers=2)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        rows_VBP = self.head(z_VBD).float()
        losses = [
            cross_correlation(
                rows_VBP[i], rows_VBP[j], off_diagonal_weight=self.config.off_diagonal_weight, group=self.group
            )
            for i, j in self.pairs
        ]
        return ObjectiveOutput(torch.stack(losses).mean(), {})
