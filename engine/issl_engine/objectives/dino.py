"""DINO (Caron et al. 2021, arXiv 2104.14294): match the centred, sharpened output of an EMA teacher.

Letters: V views, the first G global; B images on this rank; D width of the representation; K prototypes.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from issl_engine.models.heads import MLPHead, l2_normalize
from issl_engine.models.rank_buffers import Identical, register_rank_buffer
from issl_engine.objectives.assignments import assignment_statistics
from issl_engine.objectives.base import (
    AssignmentMetrics,
    Objective,
    ObjectiveOutput,
    ObjectiveShape,
    Progress,
)
from issl_engine.objectives.ema_objective import EmaObjective, EmaObjectiveConfig
from issl_engine.objectives.number_ranges import Momentum, PositiveFloat, PositiveInt
from issl_engine.ranges import Choice, LogUniform, Multiples, Range
from issl_kernels import linear_soft_cross_entropy, soft_cross_entropy
from issl_kernels.collectives import all_reduce_sum, all_reduce_sum_, world_size
from issl_kernels.precision import arithmetic_dtype


class DINOConfig(EmaObjectiveConfig):
    """Self-distillation with an EMA teacher, which sees the global views only."""

    name: Literal["dino"] = "dino"
    """Which objective this is."""
    num_prototypes: Annotated[int, Field(ge=2)] = 65536
    """Outputs K of the head."""
    student_temperature: PositiveFloat = 0.1
    """The student's cosines are divided by this."""
    teacher_temperature: PositiveFloat = 0.07
    """The teacher's centred cosines are divided by this after the warm-up."""
    teacher_temperature_start: PositiveFloat = 0.04
    """The teacher's temperature at the first step."""
    warmup_teacher_temperature_epochs: Annotated[float, Field(ge=0)] = 30.0
    """Epochs in which the teacher's temperature goes from its start to its final value, linearly; 0 for no
    warm-up."""
    centre_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the centre that is kept at each step."""
    ema_momentum: Momentum = 0.996
    """Share of the teacher's weights that is kept at the first step; rises to 1 along a cosine."""
    freeze_last_layer_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Epochs in which the head's last layer keeps its initial values."""
    hidden_dim: PositiveInt = 2048
    """Width of the head's hidden layers (GELU)."""
    hidden_layers: PositiveInt = 2
    """Hidden layers of the head."""
    bottleneck_dim: PositiveInt = 256
    """Width before the last layer (L2-normalised)."""
    batch_norm: bool = False
    """Batch-norm in the head's hidden layers."""

    logits_in_blocks: bool = False
    """Compute the logits inside the loss, one block of images at a time, and never hold all of them. That needs less
    memory with many prototypes and takes about as long."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "teacher_temperature": LogUniform(0.02, 0.1),
        "ema_momentum": Choice((0.9, 0.97, 0.99, 0.996, 0.999)),
        "num_prototypes": Multiples((0.25, 0.5, 1, 2, 4)),
    }

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        return DINO(self, shape, group)


class DINOHead(nn.Module):
    """[..., D] → MLP → L2-normalised bottleneck → cosines with K unit rows.

    The last layer's rows may have any length, and are divided by it. They start as a linear layer's do, with a norm of
    about 1/sqrt(3) = 0.58 whatever the bottleneck's width: Adam moves a row by the learning rate in each number, and
    the longer the row, the less that turns it.
    """

    def __init__(self, config: DINOConfig, feature_dim: int) -> None:
        super().__init__()
        self.mlp = MLPHead(
            feature_dim,
            config.bottleneck_dim,
            hidden_dim=config.hidden_dim,
            hidden_layers=config.hidden_layers,
            batch_norm=config.batch_norm,
            activation="gelu",
        )
        for layer in self.mlp.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.last_layer = nn.Parameter(torch.empty(config.num_prototypes, config.bottleneck_dim))
        nn.init.kaiming_uniform_(self.last_layer, a=math.sqrt(5))  # nn.Linear's own

    def forward(self, x: Tensor, *, freeze_last_layer: bool = False) -> Tensor:
        return F.linear(*self.before_last(x, freeze_last_layer=freeze_last_layer))

    def before_last(self, x: Tensor, *, freeze_last_layer: bool = False) -> tuple[Tensor, Tensor]:
        """(unit rows [..., bottleneck], unit rows [K, bottleneck]), whose cosines the head gives."""
        weight = self.last_layer.detach() if freeze_last_layer else self.last_layer
        return l2_normalize(self.mlp(x)), F.normalize(weight, dim=1)


class DINO(EmaObjective):
    """mean_{i≠j} CE(softmax((teacher_i − centre) / τ_t), softmax(student_j / τ_s)); i global, j any other
    view."""

    collapse_advice = (
        "lower objective.teacher_temperature, raise objective.freeze_last_layer_epochs, lower optimizer.lr "
        "or make objective.num_prototypes smaller"
    )

    projector: DINOHead
    centre: Tensor
    """Running mean [K] of the teacher's outputs over all ranks."""

    def __init__(self, config: DINOConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__(config.ema_momentum)
        self.config = config
        self.group = group
        self.collapse_loss = math.log(config.num_prototypes)
        self.assignment_metrics = AssignmentMetrics(config.num_prototypes, "perplexity", "prototypes_used")
        self.projector = DINOHead(config, shape.feature_dim)
        register_rank_buffer(self, "centre", torch.zeros(config.num_prototypes), Identical())

    def teacher_temperature(self, progress: Progress) -> float:
        """τ_t at this step."""
        start, end = self.config.teacher_temperature_start, self.config.teacher_temperature
        epochs = self.config.warmup_teacher_temperature_epochs
        return end if progress.epoch >= epochs else start + (end - start) * progress.epoch / epochs

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        """``teacher_GBP``: the teacher's cosines [G, B, K]. Also updates the centre, after its use."""
        assert teacher_GBP is not None, "DINO needs the EMA teacher's output"
        freeze = progress.epoch < self.config.freeze_last_layer_epochs
        teacher_GBK = teacher_GBP.detach().to(arithmetic_dtype(teacher_GBP))
        temperature = self.teacher_temperature(progress)
        targets_GBK = ((teacher_GBK - self.centre) / temperature).softmax(-1)
        if self.config.logits_in_blocks:
            rows_VBH, prototypes_KH = self.projector.before_last(z_VBD, freeze_last_layer=freeze)
            own_loss = linear_soft_cross_entropy(
                rows_VBH, prototypes_KH, None, targets_GBK, temperature=self.config.student_temperature
            )
        else:
            own_loss = soft_cross_entropy(
                self.projector(z_VBD, freeze_last_layer=freeze),
                targets_GBK,
                temperature=self.config.student_temperature,
                overwrite_logits=True,  # nothing else reads them
            )
        loss = all_reduce_sum(own_loss, self.group) / world_size(self.group)
        self._move_centre(teacher_GBK)
        statistics = assignment_statistics(targets_GBK, self.group)
        metrics = {
            "teacher_entropy": statistics.entropy,
            "kl_distillation": loss.detach() - statistics.entropy,
            "perplexity": statistics.perplexity,
            "prototypes_used": statistics.prototypes_used,
            "teacher_temperature": torch.full_like(statistics.entropy, temperature),
        }
        return ObjectiveOutput(loss, metrics)

    def no_decay_parameters(self) -> set[str]:
        """The last layer: only its rows' directions count, and decay would move it while it is frozen."""
        return {"projector.last_layer"}

    @torch.no_grad()
    def _move_centre(self, teacher_GBK: Tensor) -> None:
        mean_K = all_reduce_sum_(teacher_GBK.mean((0, 1)), self.group) / world_size(self.group)
        self.centre.lerp_(mean_K.to(self.centre.dtype), 1 - self.config.centre_momentum)
