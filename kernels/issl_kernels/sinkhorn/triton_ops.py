"""Sinkhorn-Knopp on Triton kernels: launchers as operations of torch. It has no gradient.

Letters: N images on this rank, K prototypes.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_max_, all_reduce_sum_
from issl_kernels.operation import operation
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.sinkhorn import triton_kernels as kernels
from issl_kernels.triton_launch import (
    TRITON_DTYPES,
    alignment,
    ceil_div,
    next_power_of_2,
    on_device,
    with_contiguous_rows,
)

BLOCK = 256
"""Columns per tile."""
MOST_ROWS = 32
"""Rows per program. More rows leave fewer programs than a large GPU has processors; fewer rows make larger shares to
join."""
SHARES_AT_ONCE = 8
"""Programs whose shares of a column are joined in one step."""


def _rows(N: int) -> int:
    return max(1, min(MOST_ROWS, next_power_of_2(N)))


def _block(K: int) -> int:
    return min(BLOCK, next_power_of_2(K))


def _columns_results(scores_NK: Tensor) -> Tensor:
    return scores_NK.new_empty(3, scores_NK.shape[1], dtype=torch.float64)


@operation(results=_columns_results)
def sinkhorn_columns(
    scores_NK: Tensor, highest_K: Tensor | None, potentials_K: Tensor | None, epsilon: float
) -> Tensor:
    """Columns' (maximum, Σ exp below it, −log Σ exp) [3, K], in fp64, over this rank's rows: of the scores over
    epsilon, the maximum in the scores' unit; or, given maxima and potentials, after the rows were normalised under
    these."""
    scores_NK = with_contiguous_rows(scores_NK)
    N, K = scores_NK.shape
    dtype, rows = arithmetic_dtype(scores_NK), _rows(N)
    programs = ceil_div(N, rows)
    joined = _columns_results(scores_NK)
    tops, shares = joined.new_empty(programs, K), scores_NK.new_empty(programs, K, dtype=dtype)
    first = highest_K is None or potentials_K is None
    with on_device(scores_NK):
        kernels.column_shares[(programs,)](
            scores_NK, joined if first else highest_K, joined if first else potentials_K, tops, shares, N,
            scores_NK.stride(0), 1 / epsilon, FIRST=first, K=K, ROWS=rows, BLOCK=_block(K),
            ALIGN=alignment(scores_NK), ACC=TRITON_DTYPES[dtype], num_warps=8,
        )  # fmt: skip
        kernels.join_shares[(ceil_div(K, _block(K)),)](
            tops, shares, joined, programs, 1 / epsilon if first else 1.0, K=K, ROWS=SHARES_AT_ONCE, BLOCK=_block(K),
            ACC=TRITON_DTYPES[dtype], num_warps=4,
        )  # fmt: skip
    return joined


def _assign_results(scores_NK: Tensor) -> Tensor:
    return scores_NK.new_empty(scores_NK.shape, dtype=arithmetic_dtype(scores_NK))


@operation(results=_assign_results)
def sinkhorn_assign(scores_NK: Tensor, highest_K: Tensor, potentials_K: Tensor, epsilon: float) -> Tensor:
    """Softmax of (scores − highest) / epsilon + potentials along the prototypes [N, K]."""
    scores_NK = with_contiguous_rows(scores_NK)
    N, K = scores_NK.shape
    rows = _rows(N)
    assignments_NK = _assign_results(scores_NK)
    with on_device(scores_NK):
        kernels.assign[(ceil_div(N, rows),)](
            scores_NK, highest_K, potentials_K, assignments_NK, N, scores_NK.stride(0), 1 / epsilon, K=K, ROWS=rows,
            BLOCK=_block(K), ALIGN=alignment(scores_NK), ACC=TRITON_DTYPES[assignments_NK.dtype], num_warps=8,
        )  # fmt: skip
    return assignments_NK


def sinkhorn_triton(scores_NK: Tensor, *, epsilon: float, iterations: int, group: ProcessGroup | None = None) -> Tensor:
    """As ``issl_kernels.sinkhorn``."""
    first_3K = sinkhorn_columns(scores_NK, None, None, epsilon)
    highest_K, potentials_K = _over_ranks(first_3K, epsilon, group)
    for _ in range(iterations - 1):
        next_3K = sinkhorn_columns(scores_NK, highest_K, potentials_K, epsilon)
        maximum_K, negative_log_K = _over_ranks(next_3K, 1.0, group)
        potentials_K = negative_log_K - maximum_K
    return sinkhorn_assign(scores_NK, highest_K, potentials_K, epsilon)


def _over_ranks(columns_3K: Tensor, unit: float, group: ProcessGroup | None) -> tuple[Tensor, Tensor]:
    """(maximum, −log Σ exp below it) of the columns over all ranks' rows; ``unit`` is that of the maximum."""
    if group is None:
        return columns_3K[0], columns_3K[2]
    maximum_K = all_reduce_max_(columns_3K[0].clone(), group)
    sum_K = all_reduce_sum_(columns_3K[1] * ((columns_3K[0] - maximum_K) / unit).exp(), group)
    return maximum_K, -sum_K.log()
