"""How soft assignments of images to prototypes are spread: what SwAV and DINO log.

Letters: G global views; B images on this rank; K prototypes.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum_, world_size


class AssignmentStatistics(NamedTuple):
    """Detached scalars over the global batch."""

    entropy: Tensor
    """Mean entropy per assignment, in nats: 0 is certain, ln K uniform."""
    perplexity: Tensor
    """exp(entropy of the mean assignment): prototypes in use, counted softly."""
    prototypes_used: Tensor
    """Prototypes that are the most probable one of at least one row."""


@torch.no_grad()
def assignment_statistics(assignments_GBK: Tensor, group: ProcessGroup | None) -> AssignmentStatistics:
    """``assignments_GBK``: probabilities whose rows sum to one. Makes one all-reduce of 2·K + 1 numbers."""
    G, B, K = assignments_GBK.shape
    used_K = assignments_GBK.new_zeros(K)
    used_K[assignments_GBK.argmax(-1).flatten()] = 1
    entropy = torch.special.entr(assignments_GBK).sum()
    sums = all_reduce_sum_(torch.cat((assignments_GBK.sum((0, 1)), used_K, entropy[None])), group)
    rows = G * B * world_size(group)
    return AssignmentStatistics(
        entropy=sums[-1] / rows,
        perplexity=torch.special.entr(sums[:K] / rows).sum().exp(),
        prototypes_used=(sums[K : 2 * K] > 0).sum().to(sums.dtype),
    )
