"""Redundancy reduction between two views: Barlow Twins."""

import math

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.checks import check_finite, check_floating, check_same
from issl_kernels.collectives import world_size
from issl_kernels.cross_correlation.chunked import cross_correlation_chunked
from issl_kernels.cross_correlation.reference import cross_correlation_reference
from issl_kernels.path import resolved_path


def cross_correlation(
    a_ND: Tensor, b_ND: Tensor, *, off_diagonal_weight: float, group: ProcessGroup | None = None
) -> Tensor:
    """Σ_i (1 − C_ii)² + off_diagonal_weight · Σ_{i≠j} C_ij² of the cross-correlation C [D, D]; scalar.

    Barlow Twins (Zbontar et al. 2021, equations 1 and 2). Each column of ``a_ND`` and ``b_ND`` [N, D] is centred and
    divided by its standard deviation (biased, variance + 1e-5) over the images of all ranks, then C = aᵀb / images.
    bf16, fp16, fp32 or fp64 in, arithmetic in fp32 (fp64 for fp64). Gradients flow through the standardisation and
    across ranks. No more than a block of rows of C is live.

    Raises ValueError for shapes that do not fit, a single image, or a weight that is negative or not finite.
    """
    check_floating("a_ND", a_ND, 2)
    check_floating("b_ND", b_ND, 2)
    check_same("a_ND", a_ND, "b_ND", b_ND, (0, 1))
    if not 0 <= off_diagonal_weight < math.inf:
        raise ValueError(f"off_diagonal_weight must be finite and not negative, not {off_diagonal_weight}")
    if len(a_ND) * world_size(group) == 1:
        raise ValueError(f"a_ND has one row, shape {tuple(a_ND.shape)}: a correlation needs at least two images")
    check_finite("a_ND", a_ND)
    check_finite("b_ND", b_ND)
    path = resolved_path("cross_correlation", a_ND.device, False)
    run = cross_correlation_reference if path == "reference" else cross_correlation_chunked
    with torch.autocast(a_ND.device.type, enabled=False):
        return run(a_ND, b_ND, off_diagonal_weight=off_diagonal_weight, group=group)
