"""Matrix-SSL (Zhang et al. 2023, arXiv 2305.17326): matrix cross-entropies between covariances of two views.

Letters: V views, the first G global; B images on this rank, N of all ranks; D width of the representation, P of the
projection.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead, l2_normalize
from issl_engine.objectives.base import Objective, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.cosine_regression import projection_spread
from issl_engine.objectives.ema_objective import EmaObjective, EmaObjectiveConfig
from issl_engine.objectives.number_ranges import Momentum, PositiveInt, Weight
from issl_engine.objectives.spectra import LOG_EPSILON, symmetric_log, trace_log
from issl_engine.ranges import Choice, LogUniform, Range
from issl_kernels.collectives import all_gather, gather_rows


class MatrixSSLConfig(EmaObjectiveConfig):
    """Pulls covariances between views towards a multiple of the identity, and those within views towards each other;
    with an EMA teacher and a predictor."""

    name: Literal["matrix_ssl"] = "matrix_ssl"
    """Which objective this is."""
    uniformity_weight: Weight = 0.5
    """Weight lambda of uniformity, the multiple of the identity towards which it pulls covariances between views."""
    alignment_weight: Weight = 1.0
    """Weight gamma of alignment, which pulls the views' own covariances towards each other."""
    shift: Annotated[float, Field(ge=LOG_EPSILON)] = 0.5
    """Multiple mu of the identity that is added to every covariance before its logarithm."""
    ema_momentum: Momentum = 0.996
    """Share of the teacher's weights that is kept at the first step; rises to 1 along a cosine."""
    hidden_dim: PositiveInt = 2048
    """Width of the head's two hidden layers (batch-norm, ReLU)."""
    projection_dim: PositiveInt = 2048
    """Width of the head's output (batch-norm without gain and bias) and of the predictor's, the side of the
    covariances."""
    predictor_hidden_dim: PositiveInt = 512
    """Width of the predictor's hidden layer (batch-norm, ReLU)."""

    has_predictor: ClassVar[bool] = True

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "uniformity_weight": LogUniform(0.1, 2),
        "alignment_weight": LogUniform(0.3, 3),
        "ema_momentum": Choice((0.9, 0.97, 0.99, 0.996, 0.999)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        shape.check_other_images(self.name)
        return MatrixSSL(self, shape, group)


class MatrixSSL(EmaObjective):
    """Mean over i ≠ j of −λ·tr ln(C_ij + μI) − γ·tr[(T_i + μI) ln(S_j + μI)]: i global, j any other view. In nats.

    T_i and S_j [P, P] are the covariances, over the images of all ranks, of the teacher's projections of view i and of
    the predictions of view j, both L2-normalised, and C_ij their cross-covariance. These are the matrix
    cross-entropies of the authors' program, which leaves out tr(Q) of MCE(P, Q) = tr(−P ln Q + Q). Their program
    approximates ln by four terms of Taylor's series; here ln is exact, of the symmetric part of C_ij, and extended
    below ``spectra.LOG_EPSILON``.

    Each step computes the eigenvalues of G·V matrices of P × P. It has no collapse alarm: the loss of a collapsed
    representation, −(λ + γμ)·P·ln μ, is within a few nats of the least there can be. Watch ``projection_std``.
    """

    projector: MLPHead

    def __init__(self, config: MatrixSSLConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__(config.ema_momentum)
        self.config = config
        self.group = group
        dim = config.projection_dim
        self.projector = MLPHead(
            shape.feature_dim, dim, hidden_dim=config.hidden_dim, hidden_layers=2, batch_norm_out=True, scale_out=False
        )
        self.predictor = MLPHead(dim, dim, hidden_dim=config.predictor_hidden_dim)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        assert teacher_GBP is not None, "Matrix-SSL needs the EMA teacher's projection"
        predictions_VBP = self.predictor(self.projector(z_VBD))
        with torch.autocast(z_VBD.device.type, enabled=False):
            students_VNP = _centred(gather_rows(l2_normalize(predictions_VBP), self.group, dim=1))
            teachers_GNP = _centred(all_gather(l2_normalize(teacher_GBP), self.group, dim=1))
            uniformity, alignment = self._cross_entropies(students_VNP, teachers_GNP)
        config = self.config
        loss = config.uniformity_weight * uniformity + config.alignment_weight * alignment
        metrics = {
            "uniformity": uniformity.detach(),
            "alignment": alignment.detach(),
            "projection_std": projection_spread(teacher_GBP, self.group),
        }
        return ObjectiveOutput(loss, metrics)

    def _cross_entropies(self, students_VNP: Tensor, teachers_GNP: Tensor) -> tuple[Tensor, Tensor]:
        """Means over the pairs i ≠ j of −tr ln(C_ij + μI) and of −tr[(T_i + μI) ln(S_j + μI)]."""
        V, N, P = students_VNP.shape
        shift_PP = self.config.shift * torch.eye(P, dtype=students_VNP.dtype, device=students_VNP.device)
        logs_VPP = symmetric_log(students_VNP.mT @ students_VNP / N + shift_PP)
        own_GPP = teachers_GNP.mT @ teachers_GNP / N + shift_PP
        pairs = [(i, j) for i in range(len(teachers_GNP)) for j in range(V) if i != j]
        cross = [trace_log(teachers_GNP[i].T @ students_VNP[j] / N + shift_PP) for i, j in pairs]
        own = [(own_GPP[i] * logs_VPP[j]).sum() for i, j in pairs]
        return -torch.stack(cross).mean(), -torch.stack(own).mean()


def _centred(rows_VNP: Tensor) -> Tensor:
    return rows_VNP - rows_VNP.mean(1, keepdim=True)
