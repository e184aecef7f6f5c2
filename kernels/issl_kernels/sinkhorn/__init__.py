"""Sinkhorn-Knopp assignments in the log domain (SwAV)."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.checks import check_finite, check_floating, check_positive
from issl_kernels.path import resolved_path
from issl_kernels.sinkhorn.chunked import sinkhorn_chunked
from issl_kernels.sinkhorn.reference import sinkhorn_reference


@torch.no_grad()
def sinkhorn(scores_NK: Tensor, *, epsilon: float, iterations: int, group: ProcessGroup | None = None) -> Tensor:
    """Soft assignments of N images (of this rank) to K prototypes that share all ranks' images equally.

    Sinkhorn-Knopp on exp(scores / epsilon) (Caron et al. 2020, section 3.1; Cuturi 2013): each iteration gives every
    prototype the mass 1/K, then every image its 1/N. ``scores_NK`` [N, K], bf16, fp16, fp32 or fp64; every rank
    passes as many rows. Returns [N, K] in fp32 (fp64 for fp64), rows sum to one; no gradient. The exponential is taken
    only after a maximum has been subtracted, so epsilon may be small. The scores are
    read once an iteration, and twice more.

    Raises ValueError for an empty or wrongly shaped argument, epsilon <= 0, or iterations < 1.
    """
    check_floating("scores_NK", scores_NK, 2)
    check_positive("epsilon", epsilon)
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, not {iterations}")
    check_finite("scores_NK", scores_NK)
    path = resolved_path("sinkhorn", scores_NK.device, True)
    with torch.autocast(scores_NK.device.type, enabled=False):
        if path == "reference":
            run = sinkhorn_reference
        elif path == "chunked":
            run = sinkhorn_chunked
        else:
            from issl_kernels.sinkhorn.triton_ops import sinkhorn_triton as run
        return run(scores_NK, epsilon=epsilon, iterations=iterations, group=group)
