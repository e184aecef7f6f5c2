"""The definition of Sinkhorn-Knopp in plain torch, on the matrix itself. Use it in fp64 and with moderate scores."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_gather, rank


@torch.no_grad()
def sinkhorn_reference(
    scores_NK: Tensor, *, epsilon: float, iterations: int, group: ProcessGroup | None = None
) -> Tensor:
    """As ``issl_kernels.sinkhorn``."""
    scores_MK = all_gather(scores_NK, group)
    Q_MK = (scores_MK / epsilon).exp()
    Q_MK /= Q_MK.sum()
    num_images, num_prototypes = Q_MK.shape
    for _ in range(iterations):
        Q_MK /= Q_MK.sum(0, keepdim=True) * num_prototypes
        Q_MK /= Q_MK.sum(1, keepdim=True) * num_images
    first = rank(group) * len(scores_NK)
    return Q_MK[first : first + len(scores_NK)] * num_images
