"""SimCLR (Chen et al. 2020): one shared MLP head, the own row dropped from the softmax."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from issl_engine.models.heads import mlp_head
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.objectives.contrastive_metrics import contrastive_metrics
from issl_kernels import info_nce


class SimCLRConfig(ObjectiveConfig):
    """InfoNCE between the views of an image against all other images of the global batch."""

    name: Literal["simclr"] = "simclr"
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Temperature of the softmax over cosines."""
    hidden_dim: Annotated[int, Field(ge=1)] = 2048
    """Width of the head's hidden layer."""
    projection_dim: Annotated[int, Field(ge=1)] = 128
    """Width of the head's output."""

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> "SimCLR":
        return SimCLR(self, shape, group)


class SimCLR(Objective):
    """z [V, B, D] → loss in nats. With more than two views every view is compared with the global ones."""

    def __init__(self, config: SimCLRConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        if shape.num_views < 2:
            raise ValueError("objective simclr compares views: views.groups must give at least 2 crops an image")
        self.temperature, self.group = config.temperature, group
        self.num_global_views = shape.num_global_views
        self.num_rows = shape.num_global_views * shape.global_batch_size - 1
        self.head = mlp_head(shape.feature_dim, config.hidden_dim, config.projection_dim, last_batch_norm=True)
        self.collapse_loss = math.log(max(self.num_rows, 2))
        self.collapse_advice = "raise training.global_batch_size, strengthen views.augmentation or lower optimizer.lr"

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        rows_VBP = F.normalize(self.head(z_VBD).float(), dim=-1)
        targets_GBP = rows_VBP[: self.num_global_views]
        loss = info_nce(rows_VBP, targets_GBP, temperature=self.temperature, keep_self=False, group=self.group)
        metrics = contrastive_metrics(
            rows_VBP, targets_GBP, loss, num_rows=self.num_rows, temperature=self.temperature, keep_self=False,
            group=self.group,
        )  # fmt: skip
        return ObjectiveOutput(loss, metrics)
