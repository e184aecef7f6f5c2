"""Sizes and settings at which the soft cross-entropy from features is tested and timed.

Letters: V student views, G target views, B images, H width of the features, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_kernels.case import Case, Work, normal
from issl_kernels.linear_soft_cross_entropy.teacher import LinearTeacher


@dataclass(frozen=True, kw_only=True)
class LinearSoftCrossEntropyCase(Case):
    differentiable_inputs = 3

    V: int
    G: int
    B: int
    H: int
    C: int
    temperature: float = 0.1
    teacher_temperature: float | None = 0.04
    """None: targets are given as probabilities, not as a teacher's features."""
    skip_same_view: bool = True

    def inputs(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, ...]:
        """Features [V, B, H], weight [C, H], bias [C] and, without gradient, the targets [G, B, C] or the teacher's
        features [G, B, H], weight [C, H] and centre [C]. Weights are at least fp32, as in training under autocast."""
        weights = torch.promote_types(dtype, torch.float32)
        shapes = [(self.V, self.B, self.H), (self.C, self.H), (self.C,)]
        if self.teacher_temperature is None:
            shapes.append((self.G, self.B, self.C))
        else:
            shapes += [(self.G, self.B, self.H), (self.C, self.H), (self.C,)]
        drawn = [normal(*shape, seed=seed + index) for index, shape in enumerate(shapes)]
        for index in (1, 4) if self.teacher_temperature is not None else (1,):
            drawn[index] /= 10 * self.H**0.5  # logits of the size of cosines
        if self.teacher_temperature is None:
            drawn[3] = (3 * drawn[3]).softmax(-1)
        return tuple(x.to(device, dtype if x.dim() == 3 else weights) for x in drawn)

    def call(self, operation: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        features_VBH, weight_CH, bias_C, *rest = inputs
        if self.teacher_temperature is None:
            targets: Tensor | LinearTeacher = rest[0]
        else:
            targets = LinearTeacher(rest[0], rest[1], None, self.teacher_temperature, rest[2])
        return operation(
            features_VBH,
            weight_CH,
            bias_C,
            targets,
            temperature=self.temperature,
            skip_same_view=self.skip_same_view,
        )

    @property
    def _teacher_product(self) -> float:
        return 0.0 if self.teacher_temperature is None else 2.0 * self.G * self.B * self.H * self.C

    @property
    def _inputs(self) -> float:
        return self.V * self.B * self.H + float(self.C) * self.H

    def forward_work(self, element_bytes: int) -> Work:
        """One product a layer, and the loss from logits: everything read once."""
        rows = float(self.B) * self.C
        flops = 2.0 * self.V * self.B * self.H * self.C + self._teacher_product
        return Work(flops, element_bytes * (self._inputs + (self.V + self.G) * rows), self.V * rows)

    def backward_work(self, element_bytes: int) -> Work:
        """Two products; inputs read and gradients written once; the logits read and written once."""
        rows = float(self.B) * self.C
        flops = 4.0 * self.V * self.B * self.H * self.C
        return Work(flops, element_bytes * (2 * self._inputs + (2 * self.V + self.G) * rows), self.V * rows)


TEST_CASES = (
    LinearSoftCrossEntropyCase(name="two_views", V=2, G=2, B=11, H=5, C=13),
    LinearSoftCrossEntropyCase(name="multicrop", V=5, G=2, B=9, H=7, C=21),
    LinearSoftCrossEntropyCase(name="given_targets", V=4, G=2, B=9, H=5, C=13, teacher_temperature=None),
    LinearSoftCrossEntropyCase(name="one_target_view", V=3, G=1, B=8, H=5, C=13),
    LinearSoftCrossEntropyCase(name="all_pairs", V=3, G=2, B=9, H=5, C=13, skip_same_view=False),
    LinearSoftCrossEntropyCase(name="one_image", V=2, G=2, B=1, H=3, C=5),
)
BENCH_CASES = (LinearSoftCrossEntropyCase(name="1024_2+8_256_65536", V=10, G=2, B=1024, H=256, C=65536),)
CPU_BENCH_CASES = (LinearSoftCrossEntropyCase(name="256_2+4_128_4096", V=6, G=2, B=256, H=128, C=4096),)
