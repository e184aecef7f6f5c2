"""The Barlow Twins loss in blocks of rows of the correlation matrix, recomputed in the backward pass.

Letters: N images on this rank, D width, d rows of a block; a, b: standardised columns.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum_, world_size
from issl_kernels.cross_correlation.standardise import standardise
from issl_kernels.precision import arithmetic_dtype, without_autocast

BLOCK_ELEMENTS = 2**21
"""Largest block of the correlation matrix, in elements (8 MiB in fp32)."""


def cross_correlation_chunked(
    a_ND: Tensor, b_ND: Tensor, *, off_diagonal_weight: float, group: ProcessGroup | None = None
) -> Tensor:
    """As ``issl_kernels.cross_correlation``."""
    dtype = arithmetic_dtype(a_ND, b_ND)
    loss: Tensor = _CrossCorrelation.apply(  # type: ignore[no-untyped-call]
        standardise(a_ND.to(dtype), group), standardise(b_ND.to(dtype), group), off_diagonal_weight, group
    )
    return loss


def _blocks(D: int) -> Iterator[slice]:
    step = max(1, BLOCK_ELEMENTS // D)
    for start in range(0, D, step):
        yield slice(start, min(start + step, D))


def _correlation_block(a_ND: Tensor, b_ND: Tensor, rows: slice, group: ProcessGroup | None) -> Tensor:
    """Rows of C [d, D] over the images of all ranks."""
    block_dD = a_ND[:, rows].T @ b_ND
    return all_reduce_sum_(block_dD, group) / (len(a_ND) * world_size(group))


class _CrossCorrelation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a_ND: Tensor, b_ND: Tensor, off_diagonal_weight: float, group: ProcessGroup | None) -> Tensor:
        total = torch.zeros((), dtype=a_ND.dtype, device=a_ND.device)
        for rows in _blocks(a_ND.shape[1]):
            C_dD = _correlation_block(a_ND, b_ND, rows, group)
            diagonal_d = C_dD.diagonal(rows.start).clone()
            C_dD.diagonal(rows.start).zero_()
            total += (1 - diagonal_d).square().sum() + off_diagonal_weight * C_dD.square().sum()
        ctx.save_for_backward(a_ND, b_ND)
        ctx.off_diagonal_weight, ctx.group = off_diagonal_weight, group
        return total

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        a_ND, b_ND = ctx.saved_tensors
        group = ctx.group
        # Every rank's copy of the global loss is differentiated, and the copies' gradients add up.
        scale = all_reduce_sum_(gradients[0].clone(), group) * 2 / (len(a_ND) * world_size(group))
        d_a_ND, d_b_ND = torch.empty_like(a_ND), torch.zeros_like(b_ND)
        for rows in _blocks(a_ND.shape[1]):
            C_dD = _correlation_block(a_ND, b_ND, rows, group)
            diagonal_d = C_dD.diagonal(rows.start) - 1
            d_C_dD = C_dD.mul_(ctx.off_diagonal_weight)
            d_C_dD.diagonal(rows.start).copy_(diagonal_d)
            d_C_dD *= scale
            d_a_ND[:, rows] = b_ND @ d_C_dD.T
            d_b_ND.addmm_(a_ND[:, rows], d_C_dD)
        return d_a_ND, d_b_ND, None, None
