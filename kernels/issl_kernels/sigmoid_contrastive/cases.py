"""Sizes and settings at which the sigmoid contrast is tested and timed.

Letters: V views of the anchors, G of the targets, B images, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_kernels.case import Work
from issl_kernels.info_nce.cases import ContrastiveCase


@dataclass(frozen=True, kw_only=True)
class SigmoidContrastiveCase(ContrastiveCase):
    differentiable_inputs = 4

    scale: float = 10.0
    bias: float = -10.0

    def inputs(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, ...]:
        """Anchors, targets, and scale and bias [1, 1], which are learnt."""
        numbers = (torch.full((1, 1), x, dtype=dtype, device=device) for x in (self.scale, self.bias))
        return (*super().inputs(dtype, device, seed), *numbers)

    def call(self, operation: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        anchors_VBD, targets_GBD, scale, bias = inputs
        return operation(anchors_VBD, targets_GBD, scale=scale, bias=bias, keep_self=self.keep_self)

    def forward_work(self, element_bytes: int) -> Work:
        """As InfoNCE's, and a logarithm a pair."""
        work = super().forward_work(element_bytes)
        return work._replace(exponentials=2 * work.exponentials)


TEST_CASES = (
    SigmoidContrastiveCase(name="siglip", V=1, G=1, B=17, D=7, keep_self=True),
    SigmoidContrastiveCase(name="two_views", V=2, G=2, B=17, D=7, keep_self=True, scale=3.0, bias=-0.5),
    SigmoidContrastiveCase(name="two_views_without_own", V=2, G=2, B=17, D=7, keep_self=False, scale=5.0, bias=-2.0),
    SigmoidContrastiveCase(name="multicrop", V=5, G=2, B=9, D=12, keep_self=False, scale=4.0, bias=-4.0),
    SigmoidContrastiveCase(name="one_image", V=2, G=2, B=1, D=5, keep_self=False),
    SigmoidContrastiveCase(name="one_view_one_image", V=1, G=1, B=1, D=5, keep_self=True),
    SigmoidContrastiveCase(name="peaked", V=3, G=2, B=17, D=7, keep_self=False, scale=100.0, bias=-30.0),
    SigmoidContrastiveCase(name="logits_10_000", V=3, G=2, B=17, D=7, keep_self=True, scale=100.0, row_norm=10.0),
)
BENCH_CASES = (
    SigmoidContrastiveCase(name="8192_rows_128", V=1, G=1, B=8192, D=128, keep_self=True),
    SigmoidContrastiveCase(name="32768_rows_768", V=1, G=1, B=32768, D=768, keep_self=True),
)
CPU_BENCH_CASES = (SigmoidContrastiveCase(name="4096_rows_128", V=1, G=1, B=4096, D=128, keep_self=True),)
