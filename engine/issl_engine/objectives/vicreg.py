"""VICReg (Bardes et al. 2022, arXiv 2105.04906): variance, invariance and covariance of the projections.

Letters: V views, the first G global; B images on this rank, N of all ranks; D width of the representation, P
of the projection.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.number_ranges import PositiveInt, Weight
from issl_engine.objectives.view_pairs import view_pairs
from issl_engine.ranges import LogUniform, Multiples, Range
from issl_kernels.collectives import gather_rows
from issl_kernels.precision import arithmetic_dtype

EPSILON = 1e-4
"""Added to a variance before its root (section 4.1 of the paper)."""


class VICRegConfig(ObjectiveConfig):
    """Keeps every dimension's spread and decorrelates the dimensions; needs neither negatives nor a
    teacher."""

    name: Literal["vicreg"] = "vicreg"
    """Which objective this is."""
    invariance_weight: Weight = 25.0
    """Weight of the mean squared difference of two views' projections."""
    variance_weight: Weight = 25.0
    """Weight of the hinge that keeps every dimension's standard deviation at 1 or above."""
    covariance_weight: Weight = 1.0
    """Weight of the squared covariances between different dimensions."""
    hidden_dim: PositiveInt = 8192
    """Width of the head's hidden layers (batch-norm, ReLU)."""
    hidden_layers: PositiveInt = 2
    """Hidden layers of the head."""
    projection_dim: PositiveInt = 8192
    """Width of the head's output."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "invariance_weight": LogUniform(5, 50),
        "covariance_weight": LogUniform(0.2, 5),
        "projection_dim": Multiples((0.25, 0.5, 1)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_other_images(self.name)
        return VICReg(self, shape, group)


class VICReg(Objective):
    """λ·mean_{i,j} (p_i − p_j)² + μ·mean max(0, 1 − std_k) + ν·2·mean Σ_{k≠l} Cov_kl² / P: invariance, variance and
    covariance of the projections p of all ranks, with weights λ, μ and ν. Not in nats.

    The normalisation is that of the authors' program, for which 25/25/1 was published: invariance is the
    mean squared difference over images, dimensions and pairs (global view i, other view j); variance the
    mean hinge over dimensions and views; covariance Σ_{k≠l} Cov_kl² / P, twice its mean over views (the sum,
    with two views). Variances and covariances are divided by N − 1.
    """

    collapse_advice = (
        "all images have one projection: raise objective.variance_weight, lower optimizer.lr or lengthen "
        "schedule.warmup_epochs"
    )

    def __init__(self, config: VICRegConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.config = config
        self.pairs = view_pairs(shape.num_views, shape.num_global_views, config.name)
        self.group = group
        if config.variance_weight > 0:
            self.collapse_loss = config.variance_weight * (1 - EPSILON**0.5)
        self.head = MLPHead(
            shape.feature_dim,
            config.projection_dim,
            hidden_dim=config.hidden_dim,
            hidden_layers=config.hidden_layers,
            bias_out=False,
        )

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        projections_VBP = self.head(z_VBD)
        with torch.autocast(z_VBD.device.type, enabled=False):
            rows_VBP = projections_VBP.to(arithmetic_dtype(projections_VBP))
            rows_VNP = gather_rows(rows_VBP, self.group, dim=1)
            differences = [(rows_VNP[i] - rows_VNP[j]).square().mean() for i, j in self.pairs]
            spreads = [_variance(rows_NP) for rows_NP in rows_VNP]
            covariances = [_off_diagonal(rows_NP) for rows_NP in rows_VNP]
        invariance = torch.stack(differences).mean()
        variance = torch.stack([hinge for hinge, _ in spreads]).mean()
        covariance = 2 * torch.stack(covariances).mean()
        config = self.config
        loss = (
            config.invariance_weight * invariance
            + config.variance_weight * variance
            + config.covariance_weight * covariance
        )
        metrics = {
            "invariance": invariance.detach(),
            "variance": variance.detach(),
            "covariance": covariance.detach(),
            "projection_std": spreads[0][1],
        }
        return ObjectiveOutput(loss, metrics)


def _variance(rows_NP: Tensor) -> tuple[Tensor, Tensor]:
    """mean_k max(0, 1 − std_k), and mean_k std_k."""
    deviation_P = (rows_NP.var(0) + EPSILON).sqrt()
    return (1 - deviation_P).relu().mean(), deviation_P.detach().mean()


def _off_diagonal(rows_NP: Tensor) -> Tensor:
    """Σ_{k≠l} Cov_kl² / P: squared norm of the covariance matrix without its diagonal's.

    XᵀX and XXᵀ have one norm, so the smaller of the two matrices is made.
    """
    N, P = rows_NP.shape
    centred_NP = rows_NP - rows_NP.mean(0)
    gram = centred_NP.T @ centred_NP if P <= N else centred_NP @ centred_NP.T
    diagonal_P = centred_NP.square().sum(0)
    return (gram.square().sum() - diagonal_P.square().sum()) / ((N - 1) ** 2 * P)
