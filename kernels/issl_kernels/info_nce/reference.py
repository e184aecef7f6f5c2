"""The definition of InfoNCE in plain torch: every logit at once, gradients by autograd. Use it in fp64.

Letters: V views of the anchors, G of the targets, B images a rank, N of all ranks, D width.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_gather, gather_rows
from issl_kernels.info_nce.terms import InfoNCETerms
from issl_kernels.precision import widened


def info_nce_with_terms_reference(
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    *,
    temperature: float | Tensor,
    keep_self: bool,
    labels_B: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, InfoNCETerms]:
    """As ``issl_kernels.info_nce_with_terms``; memory V·N × G·N."""
    anchors_VBD, targets_GBD = widened(anchors_VBD, targets_GBD)
    anchors_VND = gather_rows(anchors_VBD, group, dim=1)
    targets_GND = gather_rows(targets_GBD, group, dim=1)
    V, N, _ = anchors_VND.shape
    G = targets_GND.shape[0]
    if isinstance(temperature, Tensor):
        temperature = temperature.to(anchors_VND.dtype)
    products_VNGM = torch.einsum("vnd,gmd->vngm", anchors_VND, targets_GND)
    logits_VNGM = products_VNGM / temperature
    same_image_NM = torch.eye(N, dtype=torch.bool, device=anchors_VBD.device)
    same_view_VG = torch.eye(V, G, dtype=torch.bool, device=anchors_VBD.device)
    own_VNGM = same_image_NM[None, :, None, :] & same_view_VG[:, None, :, None]
    if keep_self:
        own_VNGM = torch.zeros_like(own_VNGM)
    if labels_B is None:
        alike_NM = same_image_NM
    else:
        labels_N = all_gather(labels_B, group)
        alike_NM = labels_N[:, None] == labels_N
    positive_VNGM = alike_NM[None, :, None, :] & ~own_VNGM
    lse_VN = logits_VNGM.masked_fill(own_VNGM, -torch.inf).flatten(2).logsumexp(2)
    count_VN = positive_VNGM.sum((2, 3))
    positive_VN = logits_VNGM.masked_fill(~positive_VNGM, 0).sum((2, 3)) / count_VN.clamp(min=1)
    has_positive = count_VN > 0
    loss = (lse_VN - positive_VN)[has_positive].mean()
    best_VN = logits_VNGM.masked_fill(~positive_VNGM, -torch.inf).flatten(2).amax(2)
    highest_VN = logits_VNGM.masked_fill(own_VNGM, -torch.inf).flatten(2).amax(2)
    num_targets_VN = (~own_VNGM).sum((2, 3)).to(loss.dtype)
    terms = InfoNCETerms(
        positive_similarity=(positive_VN * temperature)[has_positive].mean(),
        negative_similarity=products_VNGM[~positive_VNGM & ~own_VNGM].mean(),
        mutual_information_bound=num_targets_VN.log()[has_positive].mean() - loss,
        retrieval_accuracy=(best_VN >= highest_VN)[has_positive].to(loss.dtype).mean(),
    )
    return loss, InfoNCETerms(*(term.detach() for term in terms))


def info_nce_reference(
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    *,
    temperature: float | Tensor,
    keep_self: bool,
    labels_B: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    """As ``issl_kernels.info_nce``."""
    loss, _ = info_nce_with_terms_reference(
        anchors_VBD, targets_GBD, temperature=temperature, keep_self=keep_self, labels_B=labels_B, group=group
    )
    return loss
