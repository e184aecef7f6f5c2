"""Columns to mean zero and variance one over the images of all ranks."""

from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum, world_size

EPSILON = 1e-5
"""Added to the variance, as batch-norm does: a constant column becomes zero, not NaN."""


def standardise(x_ND: Tensor, group: ProcessGroup | None) -> Tensor:
    """(x − mean) / sqrt(biased variance + 1e-5) by column; gradients reach every rank's rows."""
    num_images = len(x_ND) * world_size(group)
    centred_ND = x_ND - all_reduce_sum(x_ND.sum(0), group) / num_images
    variance_D = all_reduce_sum(centred_ND.square().sum(0), group) / num_images
    return centred_ND * (variance_D + EPSILON).rsqrt()
