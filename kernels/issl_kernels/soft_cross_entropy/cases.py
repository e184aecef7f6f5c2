"""Sizes and settings at which the soft cross-entropy is tested and timed.

Letters: V student views, G target views, B images, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_kernels.case import Case, Work, normal


@dataclass(frozen=True, kw_only=True)
class SoftCrossEntropyCase(Case):
    differentiable_inputs = 1

    V: int
    G: int
    B: int
    C: int
    temperature: float
    skip_same_view: bool = True
    spread: float = 1.0
    """Standard deviation of the student's logits."""
    offset: float = 0.0
    """Added to every logit: it must change nothing."""
    target_spread: float = 3.0
    """Standard deviation of the targets' logs, before they are normalised."""
    agreement: bool = False
    """Each student view predicts the next target view, as confidently as the spreads say."""

    def inputs(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, ...]:
        """Student logits [V, B, C] and targets [G, B, C], which take no gradient."""
        student_VBC = normal(self.V, self.B, self.C, seed=seed, scale=self.spread) + self.offset
        log_targets_GBC = normal(self.G, self.B, self.C, seed=seed + 1, scale=self.target_spread)
        if self.agreement:
            student_VBC[: self.G] = log_targets_GBC.roll(-1, dims=0) * (self.spread / self.target_spread)
        return tuple(x.to(device=device, dtype=dtype) for x in (student_VBC, log_targets_GBC.softmax(-1)))

    def call(self, operation: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return operation(*inputs, temperature=self.temperature, skip_same_view=self.skip_same_view)

    def forward_work(self, element_bytes: int) -> Work:
        """Everything read once."""
        rows = self.B * self.C
        return Work(0, element_bytes * float(self.V + self.G) * rows, float(self.V) * rows)

    def backward_work(self, element_bytes: int) -> Work:
        """Everything read once, the student's gradient written."""
        rows = self.B * self.C
        return Work(0, element_bytes * float(2 * self.V + self.G) * rows, float(self.V) * rows)


TEST_CASES = (
    SoftCrossEntropyCase(name="two_views", V=2, G=2, B=17, C=13, temperature=0.1),
    SoftCrossEntropyCase(name="multicrop", V=6, G=2, B=9, C=33, temperature=0.2),
    SoftCrossEntropyCase(name="all_pairs", V=3, G=2, B=9, C=13, temperature=0.2, skip_same_view=False),
    SoftCrossEntropyCase(name="three_target_views", V=4, G=3, B=9, C=13, temperature=0.2),
    SoftCrossEntropyCase(name="one_target_view", V=3, G=1, B=8, C=13, temperature=0.2),
    SoftCrossEntropyCase(name="more_targets_than_students", V=1, G=3, B=8, C=13, temperature=0.2),
    SoftCrossEntropyCase(name="one_image", V=2, G=2, B=1, C=5, temperature=0.1),
    SoftCrossEntropyCase(name="peaked", V=4, G=2, B=17, C=13, temperature=0.1, spread=12.0, target_spread=12.0),
    SoftCrossEntropyCase(
        name="agreement", V=4, G=3, B=17, C=13, temperature=0.1, spread=12.0, target_spread=60.0, agreement=True
    ),
    SoftCrossEntropyCase(name="logits_10_000", V=3, G=2, B=9, C=13, temperature=1.0, spread=1e4),
    SoftCrossEntropyCase(name="offset_10_000", V=3, G=2, B=9, C=13, temperature=0.01, offset=1e4),
)
BENCH_CASES = (
    SoftCrossEntropyCase(name="1024_2+8_65536", V=10, G=2, B=1024, C=65536, temperature=0.1),
    SoftCrossEntropyCase(name="512_2+6_3000", V=8, G=2, B=512, C=3000, temperature=0.1),
)
CPU_BENCH_CASES = (SoftCrossEntropyCase(name="256_2+4_3000", V=6, G=2, B=256, C=3000, temperature=0.1),)
