"""Mean and variance of features that are read once, block by block.

Letters: N images, D width of the representation.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.probing.features.features import Features

VARIANCE_FLOOR = 1e-5
"""Added to each feature's variance, as batch-norm does."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and biased variance of each feature, fp64 [d]."""

    mean_D: Tensor
    variance_D: Tensor

    @property
    def standardising(self) -> tuple[Tensor, Tensor]:
        """(scale, offset) float32 [d] such that x * scale + offset has mean 0 and deviation 1."""
        scale_D = (self.variance_D + VARIANCE_FLOOR).rsqrt()
        return scale_D.float(), (-self.mean_D * scale_D).float()

    @property
    def resizing(self) -> tuple[Tensor, Tensor]:
        """(scale, offset) float32 [d] that divide all features by one number, their root mean square."""
        size = math.sqrt(float((self.variance_D + self.mean_D.square()).mean()))
        scale_D = torch.full_like(self.mean_D, 1 / max(size, 1e-12)).float()
        return scale_D, torch.zeros_like(scale_D)


def moments(features: Features, device: torch.device) -> Moments:
    """In fp64; the blocks' moments are merged by Chan, Golub and LeVeque's formula (1979)."""
    count = 0
    mean_D = torch.zeros(features.width, dtype=torch.float64, device=device)
    squares_D = torch.zeros_like(mean_D)
    for _, x_bD in features.blocks(device):
        wide_bD = x_bD.double()
        block_mean_D = wide_bD.mean(0)
        delta_D = block_mean_D - mean_D
        total = count + len(x_bD)
        squares_D += (wide_bD - block_mean_D).square().sum(0) + delta_D.square() * (count * len(x_bD) / total)
        mean_D += delta_D * (len(x_bD) / total)
        count = total
    return Moments(mean_D=mean_D, variance_D=squares_D / count)
