"""What is logged of a contrastive loss, without ever forming the matrix of all pairs.

Letters: V views of the anchors, G of the targets, B images on this rank, D width.
"""

import math

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum_


@torch.no_grad()
def contrastive_metrics(
    anchors_VBD: Tensor, targets_GBD: Tensor, loss: Tensor, *, num_rows: int, temperature: float, keep_self: bool,
    group: ProcessGroup | None,
) -> dict[str, Tensor]:  # fmt: skip
    """Mutual-information bound log(#rows) − loss in nats (van den Oord et al. 2018), rows a softmax runs over,
    temperature, mean cosine of positive and of negative pairs.

    The cosines come from sums: all pairs add up to the product of the sums of the rows.
    """
    V, G = len(anchors_VBD), len(targets_GBD)
    anchors_VBD, targets_GBD = anchors_VBD.float(), targets_GBD.float()
    same_image = (anchors_VBD.sum(0) * targets_GBD.sum(0)).sum()
    own = (anchors_VBD[:G] * targets_GBD).sum() if not keep_self else torch.zeros_like(same_image)
    images = torch.tensor(float(anchors_VBD.shape[1]), device=loss.device)
    anchor_sum_D, target_sum_D = anchors_VBD.sum((0, 1)), targets_GBD.sum((0, 1))
    scalars = all_reduce_sum_(torch.stack([same_image, own, images]), group)
    sums_2D = all_reduce_sum_(torch.stack([anchor_sum_D, target_sum_D]), group)
    same_image, own, images = scalars.unbind()
    positives = images * (V * G - (0 if keep_self else G))
    negatives = (V * G * images * (images - 1)).clamp(min=1)
    return {
        "mutual_information_bound": math.log(num_rows) - loss.detach(),
        "negatives": G * (images - 1),
        "temperature": torch.tensor(temperature),
        "positive_cosine": (same_image - own) / positives.clamp(min=1),
        "negative_cosine": ((sums_2D[0] * sums_2D[1]).sum() - same_image) / negatives,
    }
