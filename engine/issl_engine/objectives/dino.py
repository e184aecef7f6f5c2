"""DINO (Caron et al. 2021): self-distillation from an EMA teacher, centred and sharpened.

Letters: V views, G global; B images on this rank; K outputs.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from issl_engine.models.heads import Head
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_engine.optim.schedules import cosine
from issl_kernels import soft_cross_entropy
from issl_kernels.collectives import all_reduce_sum_, world_size


class DINOConfig(ObjectiveConfig):
    """The student's views predict the EMA teacher's sharpened, centred output."""

    name: Literal["dino"] = "dino"
    num_prototypes: Annotated[int, Field(ge=2)] = 65536
    """Outputs K of the head."""
    student_temperature: Annotated[float, Field(gt=0)] = 0.1
    """Temperature of the student's softmax."""
    teacher_temperature: Annotated[float, Field(gt=0)] = 0.07
    """Temperature of the teacher's softmax after its warm-up."""
    teacher_temperature_start: Annotated[float, Field(gt=0)] = 0.04
    """Temperature of the teacher's softmax at step 0."""
    teacher_temperature_warmup_epochs: Annotated[float, Field(ge=0)] = 30.0
    """Epochs of the linear warm-up of the teacher's temperature."""
    centre_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the centre kept at each step."""
    ema_momentum: Annotated[float, Field(ge=0, le=1)] = 0.996
    """Share of the teacher's weights kept at step 0; rises to 1 along a cosine."""
    freeze_last_layer_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Epochs before the last layer may move."""
    hidden_dim: Annotated[int, Field(ge=1)] = 2048
    """Width of the head's two hidden layers."""
    bottleneck_dim: Annotated[int, Field(ge=1)] = 256
    """Width before the last layer, where rows are normalised."""

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> "DINO":
        return DINO(self, shape, group)


class DINOHead(nn.Module):
    """MLP of three layers (GELU) → L2 norm → a last layer whose rows have norm one. [..., D] → logits [..., K]."""

    def __init__(self, dim: int, config: DINOConfig) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.mlp = Head(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, config.bottleneck_dim)
        )  # fmt: skip
        for layer in self.mlp.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = nn.Parameter(torch.randn(config.num_prototypes, config.bottleneck_dim))
        self.last_layer_frozen = False

    def forward(self, z: Tensor) -> Tensor:
        rows = F.normalize(self.mlp(z), dim=-1)
        weight = F.normalize(self.last_layer, dim=1)
        return F.linear(rows, weight.detach() if self.last_layer_frozen else weight)


class DINO(Objective):
    """z [V, B, D] and the teacher's logits [G, B, K] → loss in nats."""

    uses_ema_teacher = True
    centre_K: Tensor

    def __init__(self, config: DINOConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        if shape.num_views < 2:
            raise ValueError("objective dino compares views: views.groups must give at least 2 crops an image")
        self.config, self.group = config, group
        self.projector: DINOHead = DINOHead(shape.feature_dim, config)
        self.register_buffer("centre_K", torch.zeros(config.num_prototypes))
        self.collapse_loss = math.log(config.num_prototypes)
        self.collapse_advice = (
            "lower objective.teacher_temperature, raise objective.ema_momentum or lower optimizer.lr"
        )

    def ema_momentum(self, progress: Progress) -> float:
        return cosine(self.config.ema_momentum, 1.0, progress.fraction)

    def teacher_temperature(self, progress: Progress) -> float:
        """τ_t at this step."""
        config = self.config
        if progress.epoch >= config.teacher_temperature_warmup_epochs:
            return config.teacher_temperature
        share = progress.epoch / config.teacher_temperature_warmup_epochs
        start = config.teacher_temperature_start
        return start + share * (config.teacher_temperature - start)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        assert teacher_GBP is not None
        self.projector.last_layer_frozen = progress.epoch < self.config.freeze_last_layer_epochs
        student_VBK = self.projector(z_VBD)
        teacher_GBK = teacher_GBP.detach().float()
        targets_GBK = ((teacher_GBK - self.centre_K) / self.teacher_temperature(progress)).softmax(-1)
        loss = soft_cross_entropy(student_VBK, targets_GBK, temperature=self.config.student_temperature)
        metrics = self._metrics(targets_GBK)
        self._move_centre(teacher_GBK)
        return ObjectiveOutput(loss, metrics)

    @torch.no_grad()
    def _move_centre(self, teacher_GBK: Tensor) -> None:
        mean_K = all_reduce_sum_(teacher_GBK.mean((0, 1)), self.group) / world_size(self.group)
        self.centre_K.lerp_(mean_K, 1 - self.config.centre_momentum)

    @torch.no_grad()
    def _metrics(self, targets_GBK: Tensor) -> dict[str, Tensor]:
        marginal_K = all_reduce_sum_(targets_GBK.mean((0, 1)), self.group) / world_size(self.group)
        return {
            "teacher_entropy": torch.special.entr(targets_GBK).sum(-1).mean(),
            "teacher_marginal_entropy": torch.special.entr(marginal_K).sum(),
            "centre_norm": self.centre_K.norm(),
        }

    def no_decay_parameters(self) -> set[str]:
        return {"projector.last_layer"}
