"""The definition of InfoNCE in plain torch: every logit at once, gradients by autograd. Use it in fp64.

Letters: V views of the anchors, G of the targets, B images a rank, N of all ranks, D width.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import gather_rows
from issl_kernels.precision import widened


def info_nce_reference(
    anchors_VBD: Tensor, targets_GBD: Tensor, *, temperature: float, keep_self: bool, group: ProcessGroup | None = None
) -> Tensor:
    """As ``issl_kernels.info_nce``; memory V·N × G·N."""
    anchors_VBD, targets_GBD = widened(anchors_VBD, targets_GBD)
    anchors_VND = gather_rows(anchors_VBD, group, dim=1)
    targets_GND = gather_rows(targets_GBD, group, dim=1)
    V, N, _ = anchors_VND.shape
    G = targets_GND.shape[0]
    logits_VNGM = torch.einsum("vnd,gmd->vngm", anchors_VND, targets_GND) / temperature
    same_image_NM = torch.eye(N, dtype=torch.bool, device=anchors_VBD.device)
    same_view_VG = torch.eye(V, G, dtype=torch.bool, device=anchors_VBD.device)
    image_VNGM = same_image_NM[None, :, None, :].expand(V, N, G, N)
    own_VNGM = image_VNGM & same_view_VG[:, None, :, None]
    if keep_self:
        own_VNGM = torch.zeros_like(own_VNGM)
    positive_VNGM = image_VNGM & ~own_VNGM
    lse_VN = logits_VNGM.masked_fill(own_VNGM, -torch.inf).flatten(2).logsumexp(2)
    count_VN = positive_VNGM.sum((2, 3))
    positive_VN = logits_VNGM.masked_fill(~positive_VNGM, 0).sum((2, 3)) / count_VN.clamp(min=1)
    has_positive = count_VN > 0
    loss = (lse_VN - positive_VN)[has_positive].mean()
    return loss
