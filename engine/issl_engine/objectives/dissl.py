"""DISSL (Dubois et al. 2022): distillation with maximality, invariance and determinism; no EMA, no stop-gradient."""

import logging
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.models.heads import Head, ResidualMLP, bottleneck_classifier
from issl_engine.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput, ObjectiveShape, Progress
from issl_kernels import distillation

_log = logging.getLogger("issl_engine")


class DISSLConfig(ObjectiveConfig):
    """An MLP teacher head invents classes that are used equally and agreed upon by all views; a linear student learns them."""

    name: Literal["dissl"] = "dissl"
    num_classes: Annotated[int, Field(ge=2)] = 16384
    """Classes C of both heads: an upper bound of the number of equivalence classes."""
    teacher_temperature: Annotated[float, Field(gt=0)] = 0.5
    """Temperature of the teacher's softmax."""
    student_temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the student's softmax."""
    entropy_weight: Annotated[float, Field(ge=0)] = 2.3
    """Weight λ of the entropy of the teacher's mean prediction (maximality); published range 1.8 to 2.8."""
    invariance_weight: Annotated[float, Field(ge=0)] = 0.8
    """Weight β of the cross-entropy between the teacher's views: 0.8 on TinyImageNet, 0.6 on ImageNet."""
    invariance_weight_start: Annotated[float, Field(ge=0)] | None = None
    """Weight β at step 0 when it is ramped (ImageNet, 800 epochs: 2.3), or null for no ramp."""
    invariance_ramp_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps of the linear ramp from invariance_weight_start to invariance_weight."""
    teacher_hidden_dim: Annotated[int, Field(ge=1)] = 1024
    """Width of the teacher MLP's hidden layer."""
    bottleneck_dim: Annotated[int, Field(ge=1)] = 512
    """Width before the classifiers of both heads."""
    teacher_head: Literal["mlp", "residual"] = "mlp"
    """mlp: hidden layer, bottleneck, classes. residual: bottleneck, a residual block four times as wide, classes (ImageNet at d = 8192)."""

    @model_validator(mode="after")
    def _ramp_is_whole(self) -> Self:
        if (self.invariance_weight_start is None) != (self.invariance_ramp_steps == 0):
            raise ValueError("invariance_weight_start and invariance_ramp_steps belong together: set both or neither")
        return self

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> "DISSL":
        return DISSL(self, shape, group)


class DISSL(Objective):
    """z [V, B, D] → loss in nats. The teacher head sees the global views, the student head all."""

    def __init__(self, config: DISSLConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        if shape.num_views < 2:
            raise ValueError("objective dissl compares views: views.groups must give at least 2 crops an image")
        if config.entropy_weight < config.invariance_weight + 1:
            _log.warning(
                "objective.entropy_weight (%g) is below objective.invariance_weight + 1 (%g): the theory needs at "
                "least that against collapse",
                config.entropy_weight,
                config.invariance_weight + 1,
            )
        self.config, self.group = config, group
        self.num_global_views = shape.num_global_views
        self.teacher = _teacher_head(config, shape.feature_dim)
        self.student = bottleneck_classifier(shape.feature_dim, config.bottleneck_dim, config.num_classes)

    def invariance_weight(self, progress: Progress) -> float:
        """β at this step."""
        config = self.config
        if config.invariance_weight_start is None or progress.step >= config.invariance_ramp_steps:
            return config.invariance_weight
        share = progress.step / config.invariance_ramp_steps
        return config.invariance_weight_start + share * (config.invariance_weight - config.invariance_weight_start)

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        loss, terms = distillation(
            self.teacher(z_VBD[: self.num_global_views]),
            self.student(z_VBD),
            teacher_temperature=self.config.teacher_temperature,
            student_temperature=self.config.student_temperature,
            entropy_weight=self.config.entropy_weight,
            invariance_weight=self.invariance_weight(progress),
            group=self.group,
        )
        return ObjectiveOutput(loss, terms._asdict())


def _teacher_head(config: DISSLConfig, dim: int) -> Head:
    bottleneck = config.bottleneck_dim
    if config.teacher_head == "residual":
        return Head(
            nn.Linear(dim, bottleneck, bias=False), nn.BatchNorm1d(bottleneck), nn.ReLU(),
            ResidualMLP(bottleneck, 4 * bottleneck), nn.Linear(bottleneck, config.num_classes),
        )  # fmt: skip
    return Head(
        nn.Linear(dim, config.teacher_hidden_dim, bias=False), nn.BatchNorm1d(config.teacher_hidden_dim), nn.ReLU(),
        nn.Linear(config.teacher_hidden_dim, bottleneck, bias=False), nn.BatchNorm1d(bottleneck),
        nn.Linear(bottleneck, config.num_classes),
    )  # fmt: skip
