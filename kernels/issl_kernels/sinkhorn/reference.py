"""The definition of Sinkhorn-Knopp in plain torch, on the log of the whole matrix. Use it in fp64."""

import math

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_gather, rank
from issl_kernels.precision import arithmetic_dtype


@torch.no_grad()
def sinkhorn_reference(
    scores_NK: Tensor, *, epsilon: float, iterations: int, group: ProcessGroup | None = None
) -> Tensor:
    """As ``issl_kernels.sinkhorn``."""
    scores_MK = all_gather(scores_NK.to(arithmetic_dtype(scores_NK)), group)
    log_Q_MK = scores_MK / epsilon
    log_Q_MK = log_Q_MK - log_Q_MK.flatten().logsumexp(0)
    num_images, num_prototypes = log_Q_MK.shape
    for _ in range(iterations):
        log_Q_MK = log_Q_MK - log_Q_MK.logsumexp(0, keepdim=True) - math.log(num_prototypes)
        log_Q_MK = log_Q_MK - log_Q_MK.logsumexp(1, keepdim=True) - math.log(num_images)
    first = rank(group) * len(scores_NK)
    return log_Q_MK[first : first + len(scores_NK)].exp() * num_images
