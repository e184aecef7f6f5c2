"""CISSL (Dubois et al. 2022): contrastive with asymmetric heads; the student's is the probe's architecture."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from issl_engine.models.heads import linear_head, mlp_head
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.contrastive_metrics import contrastive_metrics
from issl_kernels import info_nce


class CISSLConfig(ObjectiveConfig):
    """InfoNCE between a student head like the probe and an MLP teacher head; the own row stays a positive."""

    name: Literal["cissl"] = "cissl"
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """Temperature of the softmax over cosines."""
    student_head: Literal["linear", "mlp"] = "linear"
    """Architecture of the student head: that of the probe which the representation is meant for."""
    hidden_dim: Annotated[int, Field(ge=1)] = 2048
    """Width of the hidden layer of MLP heads."""
    projection_dim: Annotated[int, Field(ge=1)] = 128
    """Width of both heads' outputs."""

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> "CISSL":
        return CISSL(self, shape, group)


class CISSL(Objective):
    """z [V, B, D] → loss in nats: anchors from the student head over all views, targets from the teacher head."""

    def __init__(self, config: CISSLConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.temperature, self.group = config.temperature, group
        self.num_global_views = shape.num_global_views
        self.num_rows = shape.num_global_views * shape.global_batch_size
        dim, hidden_dim, out_dim = shape.feature_dim, config.hidden_dim, config.projection_dim
        self.student = (
            linear_head(dim, out_dim)
            if config.student_head == "linear"
            else mlp_head(dim, hidden_dim, out_dim, last_batch_norm=True)
        )
        self.teacher = mlp_head(dim, hidden_dim, out_dim, last_batch_norm=True)
        self.collapse_loss = math.log(max(self.num_rows, 2))
        self.collapse_advice = "raise training.global_batch_size, strengthen views.augmentation or lower optimizer.lr"

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        anchors_VBP = F.normalize(self.student(z_VBD).float(), dim=-1)
        targets_GBP = F.normalize(self.teacher(z_VBD[: self.num_global_views]).float(), dim=-1)
        loss = info_nce(anchors_VBP, targets_GBP, temperature=self.temperature, keep_self=True, group=self.group)
        metrics = contrastive_metrics(
            anchors_VBP, targets_GBP, loss, num_rows=self.num_rows, temperature=self.temperature, keep_self=True,
            group=self.group,
        )  # fmt: skip
        return ObjectiveOutput(loss, metrics)
