"""FALCON (Sansone et al. 2025, "Collapse-Proof Non-Contrastive Self-Supervised Learning", arXiv 2410.04959).

Letters: V views, the first G global; B images on this rank, N of all ranks; D width of the representation; F width of
a code, C codes.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.mistakes import Mistake
from issl_engine.models.heads import LinearHead
from issl_engine.models.rank_buffers import Identical, register_rank_buffer
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
from issl_kernels import distillation


class FALCONConfig(ObjectiveConfig):
    """Predictions over fixed random codes agree between views and use all codes alike; no stop-gradient, no teacher."""

    name: Literal["falcon"] = "falcon"
    """Which objective this is."""
    num_codes: Annotated[int, Field(ge=2)] = 16384
    """Random codes C, far more than classes: they are nearly orthogonal, and decorrelate the dimensions."""
    code_dim: PositiveInt = 2048
    """Width F of a code and of the head's output (linear, batch-norm, tanh)."""
    invariance_weight: PositiveFloat = 1.0
    """Weight beta of the cross-entropy between views."""
    epsilon: PositiveFloat = 1e-8
    """Probability of each other code where the head's output lies on one code as closely as the batch allows. It sets
    the temperature, and must be below 1 / num_codes."""

    search_ranges: ClassVar[Mapping[str, Range]] = {
        "num_codes": Multiples((0.25, 0.5, 1, 2, 4)),
        "invariance_weight": LogUniform(0.1, 10),
    }

    @model_validator(mode="after")
    def _epsilon_is_below_uniform(self) -> Self:
        if self.epsilon * self.num_codes >= 1:
            raise Mistake(
                f"epsilon ({self.epsilon:g}) must be below 1 / num_codes ({1 / self.num_codes:g}), the probability of "
                "each code when all are equally likely"
            )
        return self

    def build(self, shape: ObjectiveShape, group: ProcessGroup | None) -> Objective:
        shape.check_two_views(self.name)
        shape.check_other_images(self.name)
        return FALCON(self, shape, group)


class FALCON(Objective):
    """β·mean_{i≠j} E_x CE(p_i, p_j) + mean_i KL(E_x p_i ‖ uniform), i global, j any other view, as in the
    authors' program; in nats.

    p = softmax(Cᵀ tanh(BN(A z)) / τ) over C codes of ±1 that never change, drawn with the run's seed; E_x is the mean
    over the images of all ranks, and τ = F / (√N · ln((1 − ε (C − 1)) / ε)). Gradients flow into both sides of the
    cross-entropy. Up to its constant ln C the loss is that of DISSL with one head, λ = 1 / β and no invariance term.
    """

    collapse_advice = (
        "all images have one prediction: lower objective.invariance_weight, lower optimizer.lr or lengthen "
        "schedule.warmup_epochs"
    )

    codes: Tensor
    """The codes, int8 [F, C], each entry 1 or −1."""

    def __init__(self, config: FALCONConfig, shape: ObjectiveShape, group: ProcessGroup | None) -> None:
        super().__init__()
        self.invariance_weight = config.invariance_weight
        self.num_global_views = shape.num_global_views
        self.group = group
        F, C = config.code_dim, config.num_codes
        self.log_num_codes = math.log(C)
        # The loss of constant uniform predictions; with β = 1 of any constant predictions.
        self.collapse_loss = config.invariance_weight * self.log_num_codes
        certainty = math.log((1 - config.epsilon * (C - 1)) / config.epsilon)
        self.temperature = F / (math.sqrt(shape.global_batch_size) * certainty)
        self.assignment_metrics = AssignmentMetrics(C, "perplexity", "codes_used")
        self.head = LinearHead(shape.feature_dim, F, batch_norm_out=True)
        codes_FC = torch.randint(0, 2, (F, C), dtype=torch.int8) * 2 - 1
        register_rank_buffer(self, "codes", codes_FC, Identical())

    def forward(self, z_VBD: Tensor, teacher_GBP: Tensor | None, progress: Progress) -> ObjectiveOutput:
        outputs_VBF = self.head(z_VBD).tanh()
        logits_VBC = outputs_VBF @ self.codes.to(outputs_VBF.dtype)
        loss, terms = distillation(
            logits_VBC[: self.num_global_views],
            logits_VBC,
            teacher_temperature=self.temperature,
            student_temperature=self.temperature,
            entropy_weight=1 / self.invariance_weight,
            invariance_weight=0.0,
            group=self.group,
        )
        metrics = {
            "invariance_ce": terms.distillation_ce,
            "marginal_entropy": terms.marginal_entropy,
            "conditional_entropy": terms.conditional_entropy,
            "perplexity": terms.perplexity,
            "codes_used": terms.classes_used,
        }
        return ObjectiveOutput(self.invariance_weight * loss + self.log_num_codes, metrics)
