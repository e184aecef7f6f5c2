"""Sizes and settings at which the Barlow Twins loss is tested and timed.

Letters: N images, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_kernels.case import Case, Work, normal


@dataclass(frozen=True, kw_only=True)
class CrossCorrelationCase(Case):
    differentiable_inputs = 2

    N: int
    D: int
    off_diagonal_weight: float = 0.005
    spread: float = 1.0
    offset: float = 0.0
    """Mean of the columns, which the standardisation takes away."""
    constant_column: bool = False
    """The first column does not vary over the images."""

    def inputs(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, ...]:
        """Two views [N, D] that are correlated, as in training."""
        image_ND = normal(self.N, self.D, seed=seed)
        views = [image_ND + normal(self.N, self.D, seed=seed + 1 + view) for view in range(2)]
        if self.constant_column:
            for x_ND in views:
                x_ND[:, 0] = 1
        return tuple((self.spread * x_ND + self.offset).to(device=device, dtype=dtype) for x_ND in views)

    def call(self, operation: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return operation(*inputs, off_diagonal_weight=self.off_diagonal_weight)

    def forward_work(self, element_bytes: int) -> Work:
        """One product; both inputs read once."""
        return Work(2.0 * self.N * self.D**2, 2.0 * element_bytes * self.N * self.D, 0)

    def backward_work(self, element_bytes: int) -> Work:
        """Two products (the correlation itself could be kept); inputs read and gradients written once."""
        return Work(4.0 * self.N * self.D**2, 4.0 * element_bytes * self.N * self.D, 0)


TEST_CASES = (
    CrossCorrelationCase(name="ragged", N=19, D=11),
    CrossCorrelationCase(name="wider_than_the_batch", N=5, D=23, off_diagonal_weight=0.5),
    CrossCorrelationCase(name="two_images", N=2, D=5),
    CrossCorrelationCase(name="large_values", N=19, D=11, spread=3e3),
    CrossCorrelationCase(name="constant_column", N=19, D=11, constant_column=True),
    CrossCorrelationCase(name="off_centre", N=19, D=11, offset=10.0),
)
BENCH_CASES = (
    CrossCorrelationCase(name="4096_8192", N=4096, D=8192),
    CrossCorrelationCase(name="2048_8192", N=2048, D=8192),
)
CPU_BENCH_CASES = (CrossCorrelationCase(name="512_2048", N=512, D=2048),)
