"""Sizes and settings at which the DISSL loss is tested and timed.

Letters: G teacher views, V student views, B images, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from issl_kernels.case import Case, Work, normal


@dataclass(frozen=True, kw_only=True)
class DistillationCase(Case):
    differentiable_inputs = 2

    V: int
    G: int
    B: int
    C: int
    teacher_temperature: float = 0.5
    student_temperature: float = 1.0
    entropy_weight: float = 2.3
    invariance_weight: float = 0.8
    spread: float = 1.0
    """Standard deviation of the logits."""
    offset: float = 0.0
    """Added to every logit: it must change nothing."""
    agreement: bool = False
    """Each student view predicts the next teacher view: where peaked, its targets without its own view's are tiny
    next to the sum of all."""

    def inputs(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, ...]:
        """Teacher [G, B, C] and student [V, B, C] logits."""
        teacher_GBC = normal(self.G, self.B, self.C, seed=seed, scale=self.spread) + self.offset
        student_VBC = normal(self.V, self.B, self.C, seed=seed + 1, scale=self.spread) + self.offset
        if self.agreement:
            student_VBC[: self.G] = teacher_GBC.roll(-1, dims=0)
        return tuple(x.to(device=device, dtype=dtype) for x in (teacher_GBC, student_VBC))

    def call(self, operation: Callable[..., Any], *inputs: Tensor) -> Tensor:
        loss: Tensor
        loss, _ = operation(
            *inputs,
            teacher_temperature=self.teacher_temperature,
            student_temperature=self.student_temperature,
            entropy_weight=self.entropy_weight,
            invariance_weight=self.invariance_weight,
        )
        return loss

    @property
    def _logits(self) -> float:
        return float(self.V + self.G) * self.B * self.C

    def forward_work(self, element_bytes: int) -> Work:
        """Two reads: the cross terms need each row's sum first."""
        return Work(0, 2 * element_bytes * self._logits, self._logits)

    def backward_work(self, element_bytes: int) -> Work:
        """One read, one write."""
        return Work(0, 2 * element_bytes * self._logits, self._logits)


TEST_CASES = (
    DistillationCase(name="two_views", V=2, G=2, B=17, C=13),
    DistillationCase(name="multicrop", V=6, G=2, B=9, C=33, student_temperature=0.9),
    DistillationCase(name="three_teacher_views", V=4, G=3, B=9, C=13, invariance_weight=0.6),
    DistillationCase(name="one_teacher_view", V=3, G=1, B=8, C=13),
    DistillationCase(name="one_image", V=2, G=2, B=1, C=5),
    DistillationCase(name="peaked", V=6, G=2, B=17, C=13, spread=12.0),
    DistillationCase(name="peaked_agreement", V=4, G=2, B=17, C=13, spread=60.0, agreement=True),
    DistillationCase(name="peaked_agreement_3", V=4, G=3, B=17, C=13, spread=60.0, agreement=True),
    DistillationCase(name="cold", V=2, G=2, B=9, C=13, teacher_temperature=0.01, student_temperature=0.01),
    DistillationCase(name="logits_10_000", V=3, G=2, B=9, C=13, spread=1e4),
    DistillationCase(name="offset_10_000", V=3, G=2, B=9, C=13, offset=1e4),
)
BENCH_CASES = (
    DistillationCase(name="1280_2+4_16384", V=6, G=2, B=1280, C=16384),
    DistillationCase(name="1280_2+4_65536", V=6, G=2, B=1280, C=65536),
)
CPU_BENCH_CASES = (
    DistillationCase(name="256_2+4_4096", V=6, G=2, B=256, C=4096),
    DistillationCase(name="256_2_256", V=2, G=2, B=256, C=256),
)
