"""MMCR (Yerxa et al. 2023, arXiv 2303.03307): spread the images' centroids over as many dimensions as there are.

Letters: V views, all alike here; B images on this rank, N of all ranks; D width of the representation, P of the
projection.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead, l2_normalize
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.number_ranges import PositiveInt, Weight
from issl_engine.objectives.spectra import nuclear_norm, nuclear_norm_of_equal_rows
from issl_engine.ranges import Choice, Multiples, Range
from issl_kernels.collectives import gather_rows


class MMCRConfig(ObjectiveConfig):
    """Maximises the nuclear norm of the images' centroids on the sphere; needs neither negatives nor a teacher."""

    name: Literal["mmcr"] = "mmcr"
    """Which objective this is."""
    compression_weight: Weight = 0.0
    """Weight lambda of the mean nuclear norm of each image's own views, which pulls them together; 0 was published,
    since the centroids' norm does so too."""
    hidden_dim: PositiveInt = 8192
    """Width of the head's hidden layers (batch-norm, ReLU)."""
    hidden_layers: PositiveInt = 2
    """Hidden layers of the head."""
    projection_dim: PositiveInt = 512
    """Width of the head's output (L2-normalised)."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "compression_weight": Choice((0.0, 0.001, 0.005, 0.02, 0.1)),
        "projection_dim": Multiples((0.5, 1, 2)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        shape.check_other_images(self.name)
        return MMCR(self, shape, group)


class MMCR(Objective):
    """−‖C‖_* + λ·mean_n ‖Z_n‖_* as in the authors' program. Not in nats.

    Z_n [V, P] are image n's unit projections, C [N, P] the means of each Z_n, over the images of all ranks; ‖·‖_* is
    the nuclear norm, smoothed near 0 as spectra.py says. It is not divided by the number of images, as published:
    −‖C‖_* lies between −√(N·min(N, P)) and 0, and gradients grow with the batch.
    """

    collapse_advice = (
        "all images have one projection: lower optimizer.lr, lengthen schedule.warmup_epochs, lower "
        "objective.compression_weight or make training.global_batch_size larger"
    )

    def __init__(self, config: MMCRConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.compression_weight = config.compression_weight
        self.group = group
        own = nuclear_norm_of_equal_rows(shape.num_views)
        self.collapse_loss = config.compression_weight * own - nuclear_norm_of_equal_rows(shape.global_batch_size)
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
            rows_VNP = gather_rows(l2_normalize(projections_VBP), self.group, dim=1)
            centroids_NP = rows_VNP.mean(0)
            spread = nuclear_norm(centroids_NP)
            loss = -spread
            if self.compression_weight > 0:
                loss = loss + self.compression_weight * nuclear_norm(rows_VNP.transpose(0, 1)).mean()
        metrics = {
            "centroid_nuclear_norm": spread.detach(),
            "centroid_length": centroids_NP.detach().norm(dim=1).mean(),
        }
        return ObjectiveOutput(loss, metrics)
