"""Sinkhorn-Knopp with row and column potentials, in blocks of rows.

Letters: N images on this rank, K prototypes, n images of a block. u, v: log potentials of rows and columns.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_max_, all_reduce_sum_
from issl_kernels.precision import arithmetic_dtype

BLOCK_ELEMENTS = 2**18


def sinkhorn_chunked(
    scores_NK: Tensor, *, epsilon: float, iterations: int, group: ProcessGroup | None = None
) -> Tensor:
    """As ``issl_kernels.sinkhorn``."""
    dtype = arithmetic_dtype(scores_NK)
    N, K = scores_NK.shape
    v_K = -_column_lse(scores_NK, None, epsilon, dtype, group)
    for _ in range(iterations - 1):
        v_K = -_column_lse(scores_NK, v_K, epsilon, dtype, group)
    assignments_NK = torch.empty(N, K, dtype=dtype, device=scores_NK.device)
    for rows in _blocks(N, K):
        torch.softmax((scores_NK[rows].to(dtype) / epsilon).add_(v_K), dim=1, out=assignments_NK[rows])
    return assignments_NK


def _column_lse(
    scores_NK: Tensor, v_K: Tensor | None, epsilon: float, dtype: torch.dtype, group: ProcessGroup | None
) -> Tensor:
    """Log of the column sums over all ranks, after the rows have been normalised under the potentials v [K].

    Constants (1/K, 1/N) shift all columns alike and drop out of the next normalisation.
    """
    N, K = scores_NK.shape
    maximum_K = torch.full((K,), -torch.inf, dtype=dtype, device=scores_NK.device)
    sum_K = torch.zeros(K, dtype=dtype, device=scores_NK.device)
    for rows in _blocks(N, K):
        log_nK = scores_NK[rows].to(dtype) / epsilon
        if v_K is not None:
            log_nK -= (log_nK + v_K).logsumexp(1, keepdim=True)
        higher_K = torch.maximum(maximum_K, log_nK.amax(0))
        sum_K = sum_K * (maximum_K - higher_K).exp() + (log_nK - higher_K).exp().sum(0)
        maximum_K = higher_K
    highest_K = all_reduce_max_(maximum_K.clone(), group)
    sum_K = all_reduce_sum_(sum_K * (maximum_K - highest_K).exp(), group)
    return sum_K.log() + highest_K


def _blocks(N: int, K: int) -> Iterator[slice]:
    step = max(1, BLOCK_ELEMENTS // K)
    for start in range(0, N, step):
        yield slice(start, min(start + step, N))
