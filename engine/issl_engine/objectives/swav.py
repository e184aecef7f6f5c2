"""SwAV (Caron et al. 2020): each view predicts the cluster assignment of the others.

Letters: V views, G global; B images on this rank; P width of a projection; K prototypes; Q images of the queue a rank.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from issl_engine.models.heads import mlp_head
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_kernels import sinkhorn, soft_cross_entropy
from issl_kernels.collectives import all_reduce_sum_, world_size


class SwAVConfig(ObjectiveConfig):
    """Assignments by Sinkhorn-Knopp over the global batch, predicted from every other view."""

    name: Literal["swav"] = "swav"
    num_prototypes: Annotated[int, Field(ge=2)] = 3000
    """Prototypes K; about ten times the number of classes in the data."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Temperature of the predictions' softmax."""
    epsilon: Annotated[float, Field(gt=0)] = 0.05
    """Entropy regularisation of Sinkhorn-Knopp; smaller gives harder assignments."""
    sinkhorn_iterations: Annotated[int, Field(ge=1)] = 3
    """Iterations of Sinkhorn-Knopp."""
    hidden_dim: Annotated[int, Field(ge=1)] = 2048
    """Width of the projection head's hidden layer."""
    projection_dim: Annotated[int, Field(ge=1)] = 128
    """Width of projections and prototypes."""
    freeze_prototypes_steps: Annotated[int, Field(ge=0)] = 313
    """Optimiser steps before the prototypes may move (5005 for small batches)."""
    queue_length: Annotated[int, Field(ge=0)] = 0
    """Earlier projections, over all ranks, that join Sinkhorn-Knopp when the batch is small (3840 published); 0 for none."""
    queue_start_epochs: Annotated[float, Field(ge=0)] = 15.0
    """Epochs before the queue is used."""

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> "SwAV":
        return SwAV(self, shape, group)


class SwAV(Objective):
    """z [V, B, D] → loss in nats."""

    queue_GQP: Tensor
    queued_images: Tensor

    def __init__(self, config: SwAVConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        if shape.num_views < 2:
            raise ValueError("objective swav compares views: views.groups must give at least 2 crops an image")
        if config.queue_length % shape.world_size:
            raise ValueError(
                f"objective.queue_length ({config.queue_length}) must be a multiple of the {shape.world_size} ranks"
            )
        self.config, self.group = config, group
        self.num_global_views = shape.num_global_views
        self.head = mlp_head(shape.feature_dim, config.hidden_dim, config.projection_dim)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.num_prototypes, config.projection_dim), dim=1))
        queue_length = config.queue_length // shape.world_size
        self.register_buffer("queue_GQP", torch.zeros(shape.num_global_views, queue_length, config.projection_dim))
        self.register_buffer("queued_images", torch.zeros((), dtype=torch.long))
        self.collapse_loss = math.log(config.num_prototypes)
        self.collapse_advice = (
            "lower objective.epsilon (to 0.03), raise objective.freeze_prototypes_steps, change "
            "objective.num_prototypes, or set objective.queue_length if the batch is smaller than the prototypes"
        )

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        projections_VBP = F.normalize(self.head(z_VBD).float(), dim=-1)
        frozen = progress.step < self.config.freeze_prototypes_steps
        prototypes_KP = self.prototypes.detach() if frozen else self.prototypes
        scores_VBK = F.linear(projections_VBP, prototypes_KP)
        G = self.num_global_views
        targets_GBK = self._assignments(projections_VBP[:G].detach(), scores_VBK[:G].detach(), progress)
        loss = soft_cross_entropy(scores_VBK, targets_GBK, temperature=self.config.temperature)
        return ObjectiveOutput(loss, self._metrics(targets_GBK))

    @torch.no_grad()
    def _assignments(self, projections_GBP: Tensor, scores_GBK: Tensor, progress: Progress) -> Tensor:
        B, Q = projections_GBP.shape[1], self.queue_GQP.shape[1]
        # The count is the same on every rank, so all take the same branch.
        use_queue = Q > 0 and progress.epoch >= self.config.queue_start_epochs and int(self.queued_images) >= Q
        assignments = []
        for view, scores_BK in enumerate(scores_GBK):
            rows = scores_BK
            if use_queue:
                rows = torch.cat([self.queue_GQP[view] @ self.prototypes.T, scores_BK])
            assigned = sinkhorn(
                rows, epsilon=self.config.epsilon, iterations=self.config.sinkhorn_iterations, group=self.group
            )
            assignments.append(assigned[-B:])
        if Q > 0:
            self.queue_GQP.copy_(torch.cat([projections_GBP, self.queue_GQP], dim=1)[:, :Q])
            self.queued_images += B
        return torch.stack(assignments)

    @torch.no_grad()
    def _metrics(self, targets_GBK: Tensor) -> dict[str, Tensor]:
        marginal_K = all_reduce_sum_(targets_GBK.mean((0, 1)), self.group) / world_size(self.group)
        used_K = torch.zeros_like(marginal_K)
        used_K[targets_GBK.argmax(-1).flatten()] = 1
        used_K = all_reduce_sum_(used_K, self.group)
        return {
            "assignment_perplexity": torch.special.entr(marginal_K).sum().exp(),
            "assignment_entropy": torch.special.entr(targets_GBK).sum(-1).mean(),
            "prototypes_used": (used_K > 0).sum().float(),
        }

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))

    def no_decay_parameters(self) -> set[str]:
        return {"prototypes"}
