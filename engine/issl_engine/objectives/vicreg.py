"""VICReg (Bardes et al. 2022): variance, invariance and covariance regularisation.

Letters: V views, B images on this rank, M of all ranks, P width of a projection.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from issl_engine.models.heads import mlp_head
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.view_pairs import view_pairs
from issl_kernels.collectives import gather_rows

EPSILON = 1e-4
"""Added to the variance before its root (equation 2 of the paper)."""


class VICRegConfig(ObjectiveConfig):
    """Invariance between views; variance and covariance of each view over the global batch."""

    name: Literal["vicreg"] = "vicreg"
    invariance_weight: Annotated[float, Field(ge=0)] = 25.0
    """Weight of the mean squared distance between views."""
    variance_weight: Annotated[float, Field(ge=0)] = 25.0
    """Weight of the hinge on each dimension's standard deviation at 1."""
    covariance_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the squared covariances between dimensions."""
    hidden_dim: Annotated[int, Field(ge=1)] = 8192
    """Width of the expander's two hidden layers."""
    projection_dim: Annotated[int, Field(ge=1)] = 8192
    """Width of the projections."""

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> "VICReg":
        return VICReg(self, shape, group)


class VICReg(Objective):
    """z [V, B, D] → loss (no unit). With more than two views, invariance is the mean over pairs of a global and
    another view, variance and covariance the mean over views."""

    def __init__(self, config: VICRegConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.config, self.group = config, group
        self.pairs = view_pairs(shape.num_views, shape.num_global_views, "vicreg")
        if shape.global_batch_size < 2:
            raise ValueError("objective vicreg needs a batch of at least 2 images for its covariance")
        self.head = mlp_head(shape.feature_dim, config.hidden_dim, config.projection_dim, hidden_layers=2)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        rows_VMP = gather_rows(self.head(z_VBD).float(), self.group, dim=1)
        invariance = torch.stack([F.mse_loss(rows_VMP[i], rows_VMP[j]) for i, j in self.pairs]).mean()
        parts = [_variance_and_covariance(rows_MP) for rows_MP in rows_VMP]
        variance = torch.stack([part[0] for part in parts]).mean()
        covariance = torch.stack([part[1] for part in parts]).mean()
        config = self.config
        loss = (
            config.invariance_weight * invariance
            + config.variance_weight * variance
            + config.covariance_weight * covariance
        )
        metrics = {"invariance": invariance, "variance": variance, "covariance": covariance}
        return ObjectiveOutput(loss, {name: value.detach() for name, value in metrics.items()})


def _variance_and_covariance(rows_MP: Tensor) -> tuple[Tensor, Tensor]:
    """mean_p max(0, 1 − std_p), and Σ_{p≠q} cov_pq² / P; both unbiased (equations 1 to 4)."""
    M, P = rows_MP.shape
    centred_MP = rows_MP - rows_MP.mean(0)
    variance_P = centred_MP.square().sum(0) / (M - 1)
    covariance_PP = centred_MP.T @ centred_MP / (M - 1)
    off_diagonal = covariance_PP.square().sum() - covariance_PP.diagonal().square().sum()
    return F.relu(1 - (variance_P + EPSILON).sqrt()).mean(), off_diagonal / P
