"""AnInfoNCE (Rusak et al. 2024, arXiv 2407.00143): contrast with a learnt weight for each dimension.

Letters: V views, the first G global; B images on this rank; D width of the representation, P of the projection.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead, l2_normalize
from issl_engine.objectives.base import Objective, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.contrastive import Contrastive, ContrastiveConfig
from issl_engine.objectives.number_ranges import PositiveFloat
from issl_engine.ranges import LogUniform, Range


class AnInfoNCEConfig(ContrastiveConfig):
    """SimCLR with a learnt diagonal metric, for views that change some latent factors more than others."""

    name: Literal["aninfonce"] = "aninfonce"
    """Which objective this is."""
    initial_temperature: PositiveFloat = 0.1
    """Every weight of the diagonal starts as one over this, where the loss is that of simclr with this temperature."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "initial_temperature": LogUniform(0.05, 0.5),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        shape.check_other_images(self.name)
        return AnInfoNCE(self, shape, group)


class AnInfoNCE(Contrastive):
    """InfoNCE with logits −½ (a − b)ᵀ Λ (a − b), Λ = diag(softplus(ρ)) learnt, a and b unit projections, as in
    the authors' program.

    As in SimCLR, an anchor's own row is not among its targets, and its positives are the image's other global views.
    The anchor's term ½ aᵀΛa is the same for all its targets, and does not change the loss. So a logit is a product of
    rows of P + 1 numbers, (Λa, 1)·(b, −½ bᵀΛb), which the kernel of InfoNCE takes.
    """

    collapse_advice = (
        "lower objective.initial_temperature, lower optimizer.lr, lengthen schedule.warmup_epochs or make "
        "training.global_batch_size larger"
    )

    def __init__(self, config: AnInfoNCEConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__(config, shape, group, keep_self=False)
        self.head = MLPHead(
            shape.feature_dim, config.projection_dim, hidden_dim=config.hidden_dim, hidden_layers=config.hidden_layers,
            batch_norm_out=True,
        )  # fmt: skip
        start = 1 / config.initial_temperature
        # The inverse of softplus, in a form that neither overflows nor cancels.
        self.raw_weights = nn.Parameter(torch.full((config.projection_dim,), start + math.log(-math.expm1(-start))))

    def diagonal(self) -> Tensor:
        """The positive weights Λ [P]."""
        return F.softplus(self.raw_weights)

    def embed(self, z_VBD: Tensor) -> tuple[Tensor, ...]:
        """(projections [V, B, P], normalised): anchors, and the targets among them."""
        return (l2_normalize(self.head(z_VBD)),)

    def compare(self, embeddings: tuple[Tensor, ...], progress: Progress) -> ObjectiveOutput:
        (rows_VBP,) = embeddings
        diagonal_P = self.diagonal().to(rows_VBP.dtype)
        targets_GBP = rows_VBP[: self.num_global_views]
        lengths_GB1 = (targets_GBP.square() * diagonal_P).sum(-1, keepdim=True)
        loss, _, metrics = self.contrast(
            torch.cat((rows_VBP * diagonal_P, torch.ones_like(rows_VBP[..., :1])), -1),
            torch.cat((targets_GBP, -lengths_GB1 / 2), -1),
            temperature=1.0,
        )
        metrics |= {"smallest_weight": diagonal_P.detach().min(), "largest_weight": diagonal_P.detach().max()}
        return ObjectiveOutput(loss, metrics)

    def no_decay_parameters(self) -> set[str]:
        """The diagonal: decay would draw all its weights to softplus(0)."""
        return {"raw_weights"}
