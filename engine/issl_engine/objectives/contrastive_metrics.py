"""What SimCLR and CISSL share: the value of their loss without information, and what they log.

Letters: V views, the first G of them targets; B images on this rank, N of all ranks; D width.
"""

import math

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.objectives.base import ObjectiveShape
from issl_kernels.collectives import all_reduce_sum_, world_size


def uninformed_loss(shape: ObjectiveShape, *, keep_self: bool) -> float:
    """Mean over anchors of ln(number of rows it is contrasted with): the loss when all cosines are equal, in
    nats.

    That is ln(G·N); without the own row (``keep_self`` False) ln(G·N − 1) for the anchors that are targets
    themselves. Such an anchor has no positive when G = 1, and does not count.
    """
    V, G = shape.num_views, shape.num_global_views
    rows = G * shape.global_batch_size
    if keep_self:
        return math.log(rows)
    if G == 1:
        return math.log(rows)
    return (G * math.log(rows - 1) + (V - G) * math.log(rows)) / V


@torch.no_grad()
def contrastive_metrics(
    loss: Tensor,
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    *,
    temperature: float,
    keep_self: bool,
    uninformed: float,
    group: ProcessGroup | None,
) -> dict[str, Tensor]:
    """Detached scalars over the global batch; ``anchors_VBD`` and ``targets_GBD`` are normalised.

    ``mutual_information_bound``: lower bound of I(z; M) in nats, log(#rows) − loss. The mean cosines need no
    N x N matrix: the sum over all pairs of rows is the product of the sums of the rows.
    """
    V, (G, B, D) = len(anchors_VBD), targets_GBD.shape
    N = B * world_size(group)
    image_anchor_BD, image_target_BD = anchors_VBD.sum(0), targets_GBD.sum(0)
    same_image = (image_anchor_BD * image_target_BD).sum()
    own = loss.new_zeros(()) if keep_self else (anchors_VBD[:G] * targets_GBD).sum()
    sums = torch.cat((image_anchor_BD.sum(0), image_target_BD.sum(0), torch.stack((same_image, own))))
    all_reduce_sum_(sums, group)
    anchor_D, target_D, (same_image, own) = sums[:D], sums[D : 2 * D], sums[2 * D :]
    num_positives = V * G - (0 if keep_self else G)
    return {
        "mutual_information_bound": uninformed - loss.detach(),
        "negatives": torch.full_like(own, G * (N - 1)),
        "temperature": torch.full_like(own, temperature),
        "positive_cosine": (same_image - own) / (N * num_positives),
        "negative_cosine": ((anchor_D * target_D).sum() - same_image) / (V * G * N * (N - 1)),
    }


COLLAPSE_ADVICE = (
    "lower objective.temperature, lower optimizer.lr, lengthen schedule.warmup_epochs or make "
    "training.global_batch_size larger"
)
