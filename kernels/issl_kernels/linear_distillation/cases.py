"""Sizes and settings at which the DISSL loss from features is tested and timed.

Letters: G teacher views, V student views, B images, H width of the features, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from issl_kernels.case import Case, Work, normal


@dataclass(frozen=True, kw_only=True)
class LinearDistillationCase(Case):
    differentiable_inputs = 6

    V: int
    G: int
    B: int
    H: int
    C: int
    spread: float = 1.0
    """Standard deviation of the logits."""
    biased: bool = True

    def inputs(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, ...]:
        """Teacher's features [G, B, H], weight [C, H], bias [C], and the student's. Weights and biases are at least
        fp32, as in training under autocast."""
        weights = torch.promote_types(dtype, torch.float32)
        drawn: list[Tensor] = []
        for views in (self.G, self.V):
            features_vBH = normal(views, self.B, self.H, seed=seed + len(drawn))
            weight_CH = normal(self.C, self.H, seed=seed + len(drawn) + 1, scale=self.spread / self.H**0.5)
            bias_C = normal(self.C, seed=seed + len(drawn) + 2) * float(self.biased)
            drawn += [features_vBH.to(dtype), weight_CH.to(weights), bias_C.to(weights)]
        return tuple(x.to(device) for x in drawn)

    def call(self, operation: Callable[..., Any], *inputs: Tensor) -> Tensor:
        loss: Tensor
        loss, _ = operation(
            *inputs, teacher_temperature=0.5, student_temperature=1.0, entropy_weight=2.3, invariance_weight=0.8
        )
        return loss

    @property
    def _product(self) -> float:
        return 2.0 * (self.V + self.G) * self.B * self.H * self.C

    @property
    def _inputs(self) -> float:
        return (self.V + self.G) * self.B * self.H + 2.0 * self.C * self.H

    @property
    def _logits(self) -> float:
        return float(self.V + self.G) * self.B * self.C

    def forward_work(self, element_bytes: int) -> Work:
        """One product, and the loss from logits, which no path avoids without doing more products instead."""
        return Work(self._product, element_bytes * (self._inputs + 2 * self._logits), self._logits)

    def backward_work(self, element_bytes: int) -> Work:
        """Two products; inputs read and gradients written once; the logits read and written once."""
        return Work(2 * self._product, element_bytes * (2 * self._inputs + 2 * self._logits), self._logits)


TEST_CASES = (
    LinearDistillationCase(name="two_views", V=2, G=2, B=11, H=5, C=13),
    LinearDistillationCase(name="multicrop", V=5, G=2, B=9, H=7, C=21, biased=False),
    LinearDistillationCase(name="one_teacher_view", V=3, G=1, B=8, H=5, C=13),
    LinearDistillationCase(name="one_image", V=2, G=2, B=1, H=3, C=5),
    LinearDistillationCase(name="peaked", V=3, G=2, B=11, H=5, C=13, spread=12.0),
)
BENCH_CASES = (LinearDistillationCase(name="1280_2+4_512_16384", V=6, G=2, B=1280, H=512, C=16384),)
CPU_BENCH_CASES = (LinearDistillationCase(name="256_2+4_128_4096", V=6, G=2, B=256, H=128, C=4096),)
