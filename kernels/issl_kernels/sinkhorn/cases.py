"""Sizes and settings at which Sinkhorn-Knopp is tested and timed.

Letters: N images, K prototypes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_kernels.case import Case, Work, normal


@dataclass(frozen=True, kw_only=True)
class SinkhornCase(Case):
    differentiable_inputs = 0

    N: int
    K: int
    epsilon: float = 0.05
    iterations: int = 3
    spread: float = 0.1
    """Standard deviation of the scores (0.1 is about that of cosines in 128 dimensions)."""
    offset: float = 0.0
    """Added to every score: it must change nothing."""

    def inputs(self, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Tensor, ...]:
        """Scores [N, K]."""
        scores_NK = normal(self.N, self.K, seed=seed, scale=self.spread) + self.offset
        return (scores_NK.to(device=device, dtype=dtype),)

    def call(self, operation: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return operation(*inputs, epsilon=self.epsilon, iterations=self.iterations)

    def forward_work(self, element_bytes: int) -> Work:
        """One read of the scores an iteration and one for the result, which is written in fp32."""
        scores = float(self.N) * self.K
        passes = self.iterations + 1
        return Work(0, scores * (passes * element_bytes + 4), scores * passes)

    def backward_work(self, element_bytes: int) -> Work:
        return Work(0, 0, 0)


TEST_CASES = (
    SinkhornCase(name="ragged", N=23, K=7),
    SinkhornCase(name="one_iteration", N=23, K=7, iterations=1),
    SinkhornCase(name="fewer_images_than_prototypes", N=5, K=31, epsilon=0.3),
    SinkhornCase(name="one_image", N=1, K=5),
    SinkhornCase(name="one_prototype", N=9, K=1),
    SinkhornCase(name="peaked", N=23, K=7, epsilon=0.01, spread=1.0),
    SinkhornCase(name="scores_10_000", N=23, K=7, epsilon=0.01, spread=1e4),
    SinkhornCase(name="offset_10_000", N=23, K=7, epsilon=1.0, spread=1.0, offset=1e4),
)
BENCH_CASES = (SinkhornCase(name="8192_3000", N=8192, K=3000),)
CPU_BENCH_CASES = (SinkhornCase(name="4096_3000", N=4096, K=3000),)
