"""SwAV (Caron et al. 2020, arXiv 2006.09882): predict one view's cluster assignment from another view.

Letters: V views, the first G global; B images on this rank; D width of the representation, P of the
projection; K prototypes; Q rows of this rank's queue.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.mistakes import Mistake
from issl_engine.models.heads import MLPHead, l2_normalize
from issl_engine.models.rank_buffers import ImageRows, register_rank_buffer
from issl_engine.objectives.assignments import assignment_statistics
from issl_engine.objectives.base import (
    AssignmentMetrics,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    ObjectiveShape,
    Progress,
)
from issl_engine.objectives.number_ranges import PositiveFloat, PositiveInt
from issl_engine.ranges import LogUniform, Multiples, Range
from issl_kernels import linear_soft_cross_entropy, sinkhorn, soft_cross_entropy
from issl_kernels.collectives import all_reduce_sum, world_size


class SwAVConfig(ObjectiveConfig):
    """Prototypes on the sphere; assignments by Sinkhorn-Knopp over the global batch."""

    name: Literal["swav"] = "swav"
    """Which objective this is."""
    num_prototypes: Annotated[int, Field(ge=2)] = 3000
    """Prototypes K: a few times as many as the expected classes."""
    temperature: PositiveFloat = 0.1
    """Cosines with the prototypes are divided by this in the prediction."""
    epsilon: PositiveFloat = 0.05
    """Cosines are divided by this in the assignment: small values give sharp assignments, large ones even ones."""
    sinkhorn_iterations: PositiveInt = 3
    """Sinkhorn-Knopp iterations."""
    freeze_prototypes_steps: Annotated[int, Field(ge=0)] = 313
    """Optimiser steps in which the prototypes keep their initial values; 313 was used with large batches, 5005 with a
    batch of 256."""
    queue_length: Annotated[int, Field(ge=0)] = 0
    """Earlier images, over all ranks, that take part in the assignment; 0 for none, 3840 was used with 256."""
    queue_start_epochs: Annotated[float, Field(ge=0)] = 15.0
    """Epochs after which the queue is used; it fills from the first step on."""
    hidden_dim: PositiveInt = 2048
    """Width of the head's hidden layer (batch-norm, ReLU)."""
    projection_dim: PositiveInt = 128
    """Width of the head's output (L2-normalised) and of the prototypes."""

    logits_in_blocks: bool = False
    """Compute the logits inside the loss, one block of images at a time, and never hold all of them. That needs less
    memory with many prototypes and takes about as long."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "epsilon": LogUniform(0.02, 0.1),
        "num_prototypes": Multiples((0.25, 0.5, 1, 2, 4)),
        "temperature": LogUniform(0.05, 0.3),
        "freeze_prototypes_steps": Multiples((0, 0.5, 1, 2, 4)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        if self.queue_length % shape.global_batch_size:
            raise Mistake(
                f"objective.queue_length ({self.queue_length}) must be a multiple of the "
                f"{shape.global_batch_size} images that a forward pass holds over all ranks, such as "
                f"{max(1, round(self.queue_length / shape.global_batch_size)) * shape.global_batch_size}"
            )
        return SwAV(self, shape, group)


class SwAV(Objective):
    """mean_{i≠j} CE(q_i, softmax(scores_j / τ)): q_i the Sinkhorn assignment of global view i, j any other
    view."""

    collapse_advice = (
        "lower objective.epsilon, raise objective.freeze_prototypes_steps, make objective.num_prototypes "
        "smaller, or set objective.queue_length if the batch has fewer images than prototypes"
    )

    prototypes: nn.Parameter
    """Unit rows [K, P]."""
    queue: Tensor | None
    """Normalised projections [G, Q, P] of the last images, oldest first."""

    def __init__(self, config: SwAVConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.config = config
        self.num_global_views = shape.num_global_views
        self.group = group
        self.collapse_loss = math.log(config.num_prototypes)
        self.assignment_metrics = AssignmentMetrics(config.num_prototypes, "assignment_perplexity", "prototypes_used")
        self.head = MLPHead(shape.feature_dim, config.projection_dim, hidden_dim=config.hidden_dim)
        rows_KP = torch.randn(config.num_prototypes, config.projection_dim)
        self.prototypes = nn.Parameter(F.normalize(rows_KP, dim=1))
        size = (shape.num_global_views, config.queue_length // shape.world_size, config.projection_dim)
        rows = ImageRows(dim=1, batch_size=shape.batch_size)
        register_rank_buffer(self, "queue", torch.zeros(size) if config.queue_length else None, rows)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        """Also adds this batch to the queue."""
        projections_VBP = l2_normalize(self.head(z_VBD))
        frozen = progress.step < self.config.freeze_prototypes_steps
        # Detached rather than without requires_grad: the optimiser's groups stay the same throughout.
        prototypes_KP = self.prototypes.detach() if frozen else self.prototypes
        G = self.num_global_views
        if self.config.logits_in_blocks:
            with torch.no_grad():
                scores_GBK = F.linear(projections_VBP[:G], prototypes_KP)
            assignments_GBK = self._assign(scores_GBK, progress)
            own_loss = linear_soft_cross_entropy(
                projections_VBP, prototypes_KP, None, assignments_GBK, temperature=self.config.temperature
            )
        else:
            scores_VBK = F.linear(projections_VBP, prototypes_KP)
            assignments_GBK = self._assign(scores_VBK[:G].detach(), progress)
            own_loss = soft_cross_entropy(
                scores_VBK, assignments_GBK, temperature=self.config.temperature, overwrite_logits=True
            )
        self._enqueue(projections_VBP[:G].detach())
        loss = all_reduce_sum(own_loss, self.group) / world_size(self.group)
        statistics = assignment_statistics(assignments_GBK, self.group)
        metrics = {
            "assignment_entropy": statistics.entropy,
            "assignment_perplexity": statistics.perplexity,
            "prototypes_used": statistics.prototypes_used,
        }
        return ObjectiveOutput(loss, metrics)

    @torch.no_grad()
    def after_step(self, progress: Progress, skipped: Tensor | None = None) -> None:
        """Normalises the prototypes to length one."""
        on_sphere_KP = F.normalize(self.prototypes, dim=1)
        self.prototypes.copy_(on_sphere_KP if skipped is None else self.prototypes.where(skipped > 0, on_sphere_KP))

    def rewritten_weights(self) -> tuple[nn.Parameter, ...]:
        return (self.prototypes,)

    def no_decay_parameters(self) -> set[str]:
        """The prototypes: their length is fixed, and decay would move frozen ones."""
        return {"prototypes"}

    @torch.no_grad()
    def _assign(self, scores_GBK: Tensor, progress: Progress) -> Tensor:
        """Assignments [G, B, K] of this rank's images, each view by itself, together with the queue's images."""
        views = []
        for view, scores_BK in enumerate(scores_GBK):
            rows = scores_BK
            if self.queue is not None and self._queue_counts(self.queue, len(scores_BK), progress):
                rows = torch.cat((F.linear(self.queue[view], self.prototypes).to(rows.dtype), rows))
            assigned = sinkhorn(
                rows,
                epsilon=self.config.epsilon,
                iterations=self.config.sinkhorn_iterations,
                group=self.group,
            )
            views.append(assigned[-len(scores_BK) :])
        return torch.stack(views)

    @torch.no_grad()
    def _enqueue(self, projections_GBP: Tensor) -> None:
        if self.queue is not None:
            B = projections_GBP.shape[1]
            self.queue.copy_(torch.cat((self.queue[:, B:], projections_GBP.to(self.queue.dtype)), dim=1))

    def _queue_counts(self, queue: Tensor, B: int, progress: Progress) -> bool:
        """Whether the queue's turn has come and it is full.

        The step decides, as a look at the queue would mean waiting for the device. With accumulation more than B images
        arrive per step, and the queue is full somewhat before it is used.
        """
        return progress.epoch >= self.config.queue_start_epochs and progress.step * B >= queue.shape[1]
