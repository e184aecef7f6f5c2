"""SSL-HSIC (Li et al. 2021, "Self-Supervised Learning with Kernel Dependence Maximization", arXiv 2106.08320).

The name "Kernel-SSL" has been used for this kernel-based family and for an early form of Matrix-SSL (matrix_ssl.py).

Letters: V views, the first G global; B images on this rank, N of all ranks; M = V + G rows per image, R = N·M rows;
D width of the representation, P of the projection.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead, l2_normalize
from issl_engine.objectives.base import Objective, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.cosine_regression import projection_spread
from issl_engine.objectives.ema_objective import EmaObjective, EmaObjectiveConfig
from issl_engine.objectives.number_ranges import Momentum, PositiveFloat, PositiveInt, Weight
from issl_engine.ranges import Choice, LogUniform, Range
from issl_kernels.collectives import all_gather, gather_rows

EPSILON = 1e-6
"""The root of HSIC(Z, Z) has no gradient at 0; below this value it is smoothed."""


class SSLHSICConfig(EmaObjectiveConfig):
    """Makes representations depend on the image's identity and on nothing else, as measured by a kernel; with an EMA
    teacher and a predictor."""

    name: Literal["ssl_hsic"] = "ssl_hsic"
    """Which objective this is."""
    regularization_weight: Weight = 3.0
    """Weight gamma of the root of the dependence of the representations on themselves."""
    kernel_scale: PositiveFloat = 1.0
    """Distance c at which the kernel c / sqrt(c² + d²) has fallen to 0.71; rows have length 1."""
    ema_momentum: Momentum = 0.99
    """Share of the teacher's weights that is kept at the first step; rises to 1 along a cosine."""
    hidden_dim: PositiveInt = 4096
    """Width of the hidden layer of head and predictor (batch-norm, ReLU)."""
    projection_dim: PositiveInt = 256
    """Width of the output of head and predictor."""

    has_predictor: ClassVar[bool] = True

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "regularization_weight": LogUniform(0.5, 10),
        "kernel_scale": LogUniform(0.3, 3),
        "ema_momentum": Choice((0.9, 0.97, 0.99, 0.996, 0.999)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        shape.check_other_images(self.name)
        return SSLHSIC(self, shape, group)


class SSLHSIC(EmaObjective):
    """−HSIC(Z, Y) + γ·√HSIC(Z, Z), Y the image's index; 0 where all rows are equal, about −1 at best; not in nats.

    Z are an image's V predictions and G teacher's projections (constants), L2-normalised, of all ranks, and K [R, R]
    their kernel k(x, y) = c / √(c² + ‖x − y‖²). HSIC(Z, Y) is the mean of k over pairs of rows of one image less its
    mean over all pairs; HSIC(Z, Z) = ‖HKH‖² / R², with H = I − 1/R. The authors' program estimates both by random
    features and learns c; here they are exact and c is fixed. It takes memory for a few times R²
    numbers.

    It has no collapse alarm. Watch ``projection_std``, which then goes to 0.
    """

    projector: MLPHead

    def __init__(self, config: SSLHSICConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__(config.ema_momentum)
        self.config = config
        self.group = group
        dim = config.projection_dim
        self.projector = MLPHead(shape.feature_dim, dim, hidden_dim=config.hidden_dim)
        self.predictor = MLPHead(dim, dim, hidden_dim=config.hidden_dim)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        assert teacher_GBP is not None, "SSL-HSIC needs the EMA teacher's projection"
        predictions_VBP = self.predictor(self.projector(z_VBD))
        with torch.autocast(z_VBD.device.type, enabled=False):
            students_VNP = gather_rows(l2_normalize(predictions_VBP), self.group, dim=1)
            teachers_GNP = all_gather(l2_normalize(teacher_GBP), self.group, dim=1)
            rows_MNP = torch.cat((students_VNP, teachers_GNP))
            with_image, with_itself = _dependences(rows_MNP, self.config.kernel_scale)
        metrics = {
            "hsic_image": with_image.detach(),
            "hsic_self": with_itself.detach(),
            "projection_std": projection_spread(teacher_GBP, self.group),
        }
        return ObjectiveOutput(self.config.regularization_weight * with_itself - with_image, metrics)


def _dependences(rows_MNP: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """HSIC(Z, Y) and √HSIC(Z, Z), of unit rows."""
    M, N, _ = rows_MNP.shape
    rows_RP = rows_MNP.flatten(0, 1)
    # Of unit rows ‖x − y‖² = 2 − 2·x·y; rounding may take it below 0, where it stays 0.
    squares_RR = (2 - 2 * rows_RP @ rows_RP.T).clamp(min=0)
    kernel_RR = scale * (scale**2 + squares_RR).rsqrt()
    # The diagonal over images holds the pairs of one image; a row with itself has k = 1.
    kernel_MNMN = torch.unflatten(torch.unflatten(kernel_RR, 1, (M, N)), 0, (M, N))
    of_an_image = kernel_MNMN.diagonal(dim1=1, dim2=3).sum()
    with_image = (of_an_image - N * M) / (N * M * (M - 1)) - kernel_RR.mean()
    centred_RR = kernel_RR - kernel_RR.mean(0) - kernel_RR.mean(1, keepdim=True) + kernel_RR.mean()
    with_itself = (centred_RR.square().mean() + EPSILON**2).sqrt() - EPSILON
    return with_image, with_itself
