"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): the views' cross-correlation should be the identity.

Letters: V views, the first G global; B images on this rank; D width of the representation, P of the
projection.
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
from issl_kernels import cross_correlation
from issl_kernels.collectives import all_reduce_sum_, world_size
from issl_kernels.precision import arithmetic_dtype


class BarlowTwinsConfig(ObjectiveConfig):
    """Redundancy reduction; needs neither negatives nor a teacher."""

    name: Literal["barlow_twins"] = "barlow_twins"
    """Which objective this is."""
    off_diagonal_weight: Weight = 0.0051
    """Weight lambda of the squared correlations between different dimensions; 0.0051 is the authors' program's."""
    hidden_dim: PositiveInt = 8192
    """Width of the head's hidden layers (batch-norm, ReLU)."""
    hidden_layers: PositiveInt = 2
    """Hidden layers of the head."""
    projection_dim: PositiveInt = 8192
    """Width of the head's output, the side of the correlation matrix."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "off_diagonal_weight": LogUniform(5e-4, 5e-2),
        "projection_dim": Multiples((0.25, 0.5, 1)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_other_images(self.name)
        return BarlowTwins(self, shape, group)


class BarlowTwins(Objective):
    """Σ_k (1 − C_kk)² + λ·Σ_{k≠l} C_kl², mean over the pairs (global view i, other view j). Not in nats.

    C [P, P] is the correlation of the two views' projections over the images of all ranks. Two global views
    are one pair: (i, j) and (j, i) have the same loss.
    """

    collapse_advice = (
        "the views' projections are uncorrelated: lower optimizer.lr, lengthen schedule.warmup_epochs or "
        "lower objective.off_diagonal_weight"
    )

    def __init__(self, config: BarlowTwinsConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.off_diagonal_weight = config.off_diagonal_weight
        self.pairs = view_pairs(shape.num_views, shape.num_global_views, config.name)
        self.group = group
        self.collapse_loss = float(config.projection_dim)
        self.head = MLPHead(
            shape.feature_dim,
            config.projection_dim,
            hidden_dim=config.hidden_dim,
            hidden_layers=config.hidden_layers,
            bias_out=False,
        )

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        projections_VBP = self.head(z_VBD)
        losses = [
            cross_correlation(
                projections_VBP[i],
                projections_VBP[j],
                off_diagonal_weight=self.off_diagonal_weight,
                group=self.group,
            )
            for i, j in self.pairs
        ]
        correlation = mean_diagonal_correlation(projections_VBP[0], projections_VBP[1], self.group)
        return ObjectiveOutput(torch.stack(losses).mean(), {"diagonal_correlation": correlation})


@torch.no_grad()
def mean_diagonal_correlation(a_BP: Tensor, b_BP: Tensor, group: ProcessGroup | None) -> Tensor:
    """Mean over dimensions of the correlation between two views, over the images of all ranks: 1 is
    invariant."""
    a_BP, b_BP = a_BP.to(arithmetic_dtype(a_BP)), b_BP.to(arithmetic_dtype(b_BP))
    products = (a_BP, b_BP, a_BP.square(), b_BP.square(), a_BP * b_BP)
    sums_5P = all_reduce_sum_(torch.stack([product.sum(0) for product in products]), group)
    a_P, b_P, aa_P, bb_P, ab_P = (sums_5P / (len(a_BP) * world_size(group))).unbind()
    variances_P = (aa_P - a_P.square()).clamp(min=0) * (bb_P - b_P.square()).clamp(min=0)
    return ((ab_P - a_P * b_P) / (variances_P.sqrt() + 1e-5)).mean()
