"""The parts of InfoNCE that are worth logging.

Letters: V views of the anchors, G of the targets, B images on this rank, N of all ranks, D width.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum_, world_size
from issl_kernels.info_nce.statistics import RowStatistics


class InfoNCETerms(NamedTuple):
    """Detached scalars over the global batch."""

    positive_similarity: Tensor
    """Mean over anchors of the mean product with their positives: their cosine, where rows have length one."""
    negative_similarity: Tensor
    """Mean product of the pairs that are neither positives nor the anchor's own row; NaN where there are none."""
    mutual_information_bound: Tensor
    """Mean over anchors of ln(number of targets), less the loss: a lower bound of I(anchor; target), in nats."""
    retrieval_accuracy: Tensor
    """Share of the anchors whose nearest target is a positive; one as near as the nearest counts."""


def terms_of(
    statistics: RowStatistics,
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    temperature: Tensor,
    keep_self: bool,
    group: ProcessGroup | None,
) -> tuple[Tensor, Tensor, InfoNCETerms]:
    """(loss, number of anchors with a positive, terms) over all ranks, by one all-reduce of 2 D + 8 numbers.

    The sum over all pairs of rows is the product of the sums of the rows.
    """
    V, (G, B, D) = len(anchors_VBD), targets_GBD.shape
    N = B * world_size(group)
    dtype = statistics.maximum.dtype
    has_positive = statistics.num_positives > 0
    positive_sum = statistics.num_positives * statistics.maximum.masked_fill(~has_positive, 0) - statistics.gap
    positive_mean = torch.where(has_positive, positive_sum / statistics.num_positives, 0)
    num_targets_VB = torch.full((V, B), float(G * N), dtype=dtype, device=anchors_VBD.device)
    own = torch.zeros((), dtype=dtype, device=anchors_VBD.device)
    if not keep_self:
        num_targets_VB[:G] -= 1
        own = (anchors_VBD[:G].to(dtype) * targets_GBD.to(dtype)).sum()
    numbers = torch.stack(
        (
            statistics.losses().sum(),
            has_positive.sum().to(dtype),
            positive_mean.sum(),
            positive_sum.sum(),
            statistics.num_positives.sum(),
            own,
            torch.where(has_positive, num_targets_VB.flatten().log(), 0).sum(),
            (statistics.least_gap <= 0).sum().to(dtype),
        )
    )
    sums = torch.cat((anchors_VBD.sum((0, 1), dtype=dtype), targets_GBD.sum((0, 1), dtype=dtype), numbers))
    all_reduce_sum_(sums, group)
    anchor_D, target_D, numbers = sums[:D], sums[D : 2 * D], sums[2 * D :]
    total, num_anchors, means, positives, num_positives, own, log_targets, retrieved = numbers
    loss = total / num_anchors
    num_own = 0 if keep_self else min(V, G) * N
    num_negatives = V * N * G * N - num_own - num_positives
    negatives = (anchor_D * target_D).sum() - own - positives * temperature
    terms = InfoNCETerms(
        positive_similarity=means / num_anchors * temperature,
        negative_similarity=torch.where(num_negatives > 0, negatives / num_negatives, torch.nan),
        mutual_information_bound=log_targets / num_anchors - loss,
        retrieval_accuracy=retrieved / num_anchors,
    )
    return loss, num_anchors, terms
