"""Sinkhorn-Knopp with column potentials, in blocks of rows.

Letters: N images on this rank, K prototypes, n images of a block. v: log potentials of the columns.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_max_, all_reduce_sum_
from issl_kernels.precision import arithmetic_dtype

BLOCK_ELEMENTS = 2**20


def sinkhorn_chunked(
    scores_NK: Tensor, *, epsilon: float, iterations: int, group: ProcessGroup | None = None
) -> Tensor:
    """As ``issl_kernels.sinkhorn``.

    Potentials and differences are in double precision, exponentials in single: with scores of 10 000 over an epsilon
    of 0.01 the potentials are of the order of a million, and two columns differ only in their last digits.
    """
    dtype = arithmetic_dtype(scores_NK)
    N, K = scores_NK.shape
    # Columns are normalised first, so taking a number from a whole column changes nothing but the rounding: scores that
    # share a large offset keep their digits.
    highest_K = all_reduce_max_(scores_NK.amax(0).double(), group)
    v_K = -_column_lse(scores_NK, highest_K, None, epsilon, group)
    for _ in range(iterations - 1):
        v_K = -_column_lse(scores_NK, highest_K, v_K, epsilon, group)
    assignments_NK = torch.empty(N, K, dtype=dtype, device=scores_NK.device)
    for rows in _blocks(N, K):
        y_nK = _below(scores_NK[rows], highest_K, epsilon).add_(v_K)
        torch.softmax(y_nK.sub_(y_nK.amax(1, keepdim=True)).to(dtype), dim=1, out=assignments_NK[rows])
    return assignments_NK


def _below(scores_nK: Tensor, highest_K: Tensor, epsilon: float) -> Tensor:
    return torch.sub(scores_nK, highest_K).div_(epsilon)


def _column_lse(
    scores_NK: Tensor, highest_K: Tensor, v_K: Tensor | None, epsilon: float, group: ProcessGroup | None
) -> Tensor:
    """Log of the column sums over all ranks, after the rows have been normalised under the potentials v [K].

    Constants (1/K, 1/N) shift all columns alike and drop out of the next normalisation.
    """
    N, K = scores_NK.shape
    dtype = arithmetic_dtype(scores_NK)
    maximum_K, sum_K = torch.full_like(highest_K, -torch.inf), torch.zeros_like(highest_K)
    for rows in _blocks(N, K):
        log_nK = _below(scores_NK[rows], highest_K, epsilon)
        if v_K is not None:
            y_nK = log_nK + v_K
            top_n1 = y_nK.amax(1, keepdim=True)
            log_nK -= top_n1 + y_nK.sub_(top_n1).to(dtype).exp_().sum(1, keepdim=True).log()
        higher_K = torch.maximum(maximum_K, log_nK.amax(0))
        sum_K = sum_K * (maximum_K - higher_K).exp() + log_nK.sub_(higher_K).to(dtype).exp_().sum(0)
        maximum_K = higher_K
    overall_K = all_reduce_max_(maximum_K.clone(), group)
    sum_K = all_reduce_sum_(sum_K * (maximum_K - overall_K).exp(), group)
    return sum_K.log() + overall_K


def _blocks(N: int, K: int) -> Iterator[slice]:
    step = max(1, BLOCK_ELEMENTS // K)
    for start in range(0, N, step):
        yield slice(start, min(start + step, N))
