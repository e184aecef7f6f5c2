"""DISSL (Dubois et al. 2022, arXiv 2209.06235): distil a teacher head into a linear student head, without
contrast.

Letters: V views, the first G global; B images on this rank; D width of the representation; C equivalence
classes.
"""

import logging
import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.mistakes import Mistake
from issl_engine.models.heads import Head, LinearHead, LinearInit, MLPHead, ResidualHead, init_projections
from issl_engine.objectives.base import (
    AssignmentMetrics,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    ObjectiveShape,
    Progress,
)
from issl_engine.objectives.number_ranges import PositiveFloat, PositiveInt, Weight
from issl_engine.ranges import LogUniform, Multiples, Range, Uniform
from issl_kernels import DistillationTerms, distillation, linear_distillation

_log = logging.getLogger("issl_engine")

RAMPS = (
    ("invariance_weight_start", "invariance_ramp_steps"),
    ("teacher_temperature_start", "teacher_temperature_ramp_steps"),
)
"""Keys of a ramp's start and of its length."""

HeadKind = Literal["linear", "mlp", "block_bottleneck", "bottleneck_block"]


class DISSLConfig(ObjectiveConfig):
    """Distillation, maximality of the classes, invariance and determinism; gradients reach both heads."""

    name: Literal["dissl"] = "dissl"
    """Which objective this is."""
    num_classes: Annotated[int, Field(ge=2)] = 16384
    """Classes C among which both heads choose."""
    teacher_temperature: PositiveFloat = 0.5
    """The teacher's logits are divided by this."""
    teacher_temperature_start: PositiveFloat | None = None
    """The teacher's temperature at the first step of its ramp, or null for no ramp. A high one lets the classes spread
    before they are told apart."""
    teacher_temperature_ramp_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps in which the teacher's temperature goes from teacher_temperature_start to teacher_temperature,
    linearly."""
    student_temperature: PositiveFloat = 1.0
    """The student's logits are divided by this."""
    entropy_weight: Weight = 2.3
    """Weight lambda of maximality, the entropy of the mean prediction; take at least invariance_weight + 1. Values
    from 1.8 to 2.8 were tried."""
    invariance_weight: Weight = 0.8
    """Weight beta of invariance and determinism: 0.8 on TinyImageNet, 0.6 on ImageNet; 0.4 to 1 was tried."""
    invariance_weight_start: Weight | None = None
    """Weight beta at the first step of its ramp (2.3 in the published run of 800 epochs), or null for no
    ramp."""
    invariance_ramp_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps in which beta goes from invariance_weight_start to invariance_weight, linearly."""
    teacher_head: HeadKind = "mlp"
    """linear: the bottleneck alone. mlp: hidden layers, then the bottleneck. block_bottleneck: a residual block of
    hidden layers on the representation, then the bottleneck; published for ResNet-50 with 2048 dimensions, where the
    block is 2048-2048-2048 (hidden_dim 2048, hidden_layers 1). bottleneck_block: the bottleneck, then the block;
    published for 8192 dimensions, where the block is 512-2048-2048-512 (hidden_dim 2048, hidden_layers 2)."""
    teacher_init: LinearInit = "linear"
    """How those of the teacher's layers start that have fewer outputs than inputs: linear, as torch's linear layers do;
    johnson_lindenstrauss, as random projections (normal, variance 1 / outputs), published for 8192 dimensions."""
    student_head: HeadKind = "linear"
    """The student's head, one of the same kinds: take the architecture of the probe that the representation is meant
    for."""
    hidden_dim: PositiveInt = 1024
    """Width of the hidden layers of all heads but linear ones (batch-norm, ReLU)."""
    hidden_layers: PositiveInt = 1
    """Hidden layers of all heads but linear ones. A residual block has one linear layer more, back to its width."""
    bottleneck_dim: PositiveInt = 512
    """Width that every head passes through before the classes (batch-norm, and ReLU in heads with a residual block)."""

    logits_in_blocks: bool = False
    """Compute the logits inside the loss, one block of images at a time, and never hold all of them. That needs less
    memory with many classes and takes about as long."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "teacher_temperature": LogUniform(0.1, 1.5),
        "num_classes": Multiples((0.25, 0.5, 1, 2, 4)),
        "entropy_weight": Uniform(1.5, 3.0),
        "invariance_weight": Uniform(0.4, 1.0),
    }

    @model_validator(mode="after")
    def _ramps_are_whole(self) -> Self:
        for start_key, steps_key in RAMPS:
            start, steps = getattr(self, start_key), getattr(self, steps_key)
            if (start is None) != (steps == 0):
                raise Mistake(f"{start_key} ({start}) and {steps_key} ({steps}) belong together: set both or neither")
        return self

    @property
    def _tends_to_collapse(self) -> bool:
        return self.entropy_weight < self.invariance_weight + 1

    def unfit_for_search(self) -> str | None:
        if self._tends_to_collapse:
            return "entropy_weight is below invariance_weight + 1, where the classes tend to collapse"
        return None

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        if self._tends_to_collapse:
            _log.warning(
                "objective.entropy_weight (%g) is below objective.invariance_weight + 1 (%g), where the "
                "classes tend to collapse; raise the first or lower the second",
                self.entropy_weight,
                self.invariance_weight + 1,
            )
        elif (start := self.invariance_weight_start or 0) > self.entropy_weight - 1:
            steps = self.invariance_ramp_steps * (start - self.entropy_weight + 1) / (start - self.invariance_weight)
            _log.info(
                "objective.invariance_weight_start (%g) is above objective.entropy_weight - 1 (%g): as in the "
                "published run of 800 epochs, the classes are free to collapse until step %d of the ramp",
                start, self.entropy_weight - 1, math.ceil(steps),
            )  # fmt: skip
        return DISSL(self, shape, group)


class DISSL(Objective):
    """mean_{i≠j} CE(t_i, s_j) − λ·H(E t) + β·mean_{i≠i'} CE(t_i, t_i'), with E over the global batch.

    The loss does not show a collapse: uniform predictions give (1 − λ + β)·ln C, and training starts there too. After a
    collapse the entropy of each image's classes stays at ln C.
    """

    diversity_advice = (
        "raise objective.entropy_weight (to objective.invariance_weight + 1 or more), lower objective.num_classes, "
        "objective.teacher_temperature or optimizer.lr, or make training.global_batch_size larger"
    )

    def __init__(self, config: DISSLConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.config = config
        self.num_global_views = shape.num_global_views
        self.group = group
        self.uninformed_metric = ("conditional_entropy", math.log(config.num_classes))
        self.assignment_metrics = AssignmentMetrics(config.num_classes, "perplexity", "classes_used")
        self.teacher_head = _head(config, config.teacher_head, shape.feature_dim)
        self.student_head = _head(config, config.student_head, shape.feature_dim)
        if config.teacher_init == "johnson_lindenstrauss":
            init_projections(self.teacher_head)

    def invariance_weight(self, progress: Progress) -> float:
        """β at this step."""
        config = self.config
        return _ramped(
            config.invariance_weight_start, config.invariance_weight, config.invariance_ramp_steps, progress.step
        )

    def teacher_temperature(self, progress: Progress) -> float:
        """τ_t at this step."""
        config = self.config
        return _ramped(
            config.teacher_temperature_start, config.teacher_temperature, config.teacher_temperature_ramp_steps,
            progress.step,
        )  # fmt: skip

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        invariance_weight, temperature = self.invariance_weight(progress), self.teacher_temperature(progress)
        if self.config.logits_in_blocks:
            loss, terms = self._loss_from_features(z_VBD, invariance_weight, temperature)
        else:
            loss, terms = distillation(
                self.teacher_head(z_VBD[: self.num_global_views]),
                self.student_head(z_VBD),
                teacher_temperature=temperature,
                student_temperature=self.config.student_temperature,
                entropy_weight=self.config.entropy_weight,
                invariance_weight=invariance_weight,
                group=self.group,
                overwrite_logits=True,  # nothing else reads them
            )
        settings = {"invariance_weight": invariance_weight, "teacher_temperature": temperature}
        scalars = {name: loss.detach().new_full((), value) for name, value in settings.items()}
        return ObjectiveOutput(loss, terms._asdict() | scalars)

    def _loss_from_features(
        self, z_VBD: Tensor, invariance_weight: float, teacher_temperature: float
    ) -> tuple[Tensor, DistillationTerms]:
        teacher_GBH, teacher_last = self.teacher_head.before_last(z_VBD[: self.num_global_views])
        student_VBH, student_last = self.student_head.before_last(z_VBD)
        return linear_distillation(
            teacher_GBH,
            teacher_last.weight,
            teacher_last.bias,
            student_VBH,
            student_last.weight,
            student_last.bias,
            teacher_temperature=teacher_temperature,
            student_temperature=self.config.student_temperature,
            entropy_weight=self.config.entropy_weight,
            invariance_weight=invariance_weight,
            group=self.group,
        )


def _ramped(start: float | None, end: float, ramp_steps: int, step: int) -> float:
    """From ``start`` to ``end`` over ``ramp_steps`` steps, then ``end``; without a start always ``end``."""
    if start is None:
        return end
    return start + min(1.0, step / ramp_steps) * (end - start)


def _head(config: DISSLConfig, kind: HeadKind, feature_dim: int) -> Head:
    dims = (feature_dim, config.num_classes)
    if kind == "linear":
        return LinearHead(*dims, bottleneck_dim=config.bottleneck_dim)
    if kind == "mlp":
        return MLPHead(
            *dims, hidden_dim=config.hidden_dim, hidden_layers=config.hidden_layers,
            bottleneck_dim=config.bottleneck_dim,
        )  # fmt: skip
    return ResidualHead(
        *dims, hidden_dim=config.hidden_dim, hidden_layers=config.hidden_layers,
        bottleneck_dim=config.bottleneck_dim, block_first=kind == "block_bottleneck",
    )  # fmt: skip
