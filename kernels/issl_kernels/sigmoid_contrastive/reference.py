"""The definition of the sigmoid contrast in plain torch: every pair at once, gradients by autograd. Use it in fp64.

Letters: V views of the anchors, G of the targets, B images per rank, N and M of all ranks, D width.
"""

from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from issl_kernels.info_nce.reference import pairs_of


def sigmoid_contrastive_reference(
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    *,
    scale: float | Tensor,
    bias: float | Tensor,
    keep_self: bool,
    labels_B: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    """As ``issl_kernels.sigmoid_contrastive``; memory V·N × G·N."""
    products_VNGM, own_VNGM, positive_VNGM = pairs_of(anchors_VBD, targets_GBD, keep_self, labels_B, group)
    scale, bias = (x.to(products_VNGM.dtype) if isinstance(x, Tensor) else x for x in (scale, bias))
    logits_VNGM = products_VNGM * scale + bias
    losses_VNGM = -F.logsigmoid(logits_VNGM.where(positive_VNGM, -logits_VNGM))
    V, N = products_VNGM.shape[:2]
    return losses_VNGM.masked_fill(own_VNGM, 0).sum() / (V * N)
