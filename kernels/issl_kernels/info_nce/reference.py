"""The definition of InfoNCE in plain torch: every logit at once, gradients by autograd. Use it in fp64.

Letters: V views of the anchors, G of the targets, B images per rank, N of all ranks, D width.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_gather, gather_rows
from issl_kernels.info_nce.terms import InfoNCETerms
from issl_kernels.precision import widened


class Pairs(NamedTuple):
    """All anchors with all targets."""

    products_VNGM: Tensor
    own_VNGM: Tensor
    """The anchor's own row, to be left out."""
    positive_VNGM: Tensor


def info_nce_reference(
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    *,
    temperature: float | Tensor,
    keep_self: bool,
    labels_B: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    """As ``issl_kernels.info_nce``; memory V·N × G·N."""
    pairs = pairs_of(anchors_VBD, targets_GBD, keep_self, labels_B, group)
    return _loss(_over_temperature(pairs, temperature), pairs.own_VNGM, pairs.positive_VNGM)


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
    pairs = pairs_of(anchors_VBD, targets_GBD, keep_self, labels_B, group)
    logits_VNGM, own_VNGM, positive_VNGM = _over_temperature(pairs, temperature), *pairs[1:]
    loss = _loss(logits_VNGM, own_VNGM, positive_VNGM)
    count_VN = positive_VNGM.sum((2, 3))
    has_positive = count_VN > 0
    positive_VN = logits_VNGM.masked_fill(~positive_VNGM, 0).sum((2, 3)) / count_VN.clamp(min=1)
    best_VN = logits_VNGM.masked_fill(~positive_VNGM, -torch.inf).flatten(2).amax(2)
    highest_VN = logits_VNGM.masked_fill(own_VNGM, -torch.inf).flatten(2).amax(2)
    num_targets_VN = (~own_VNGM).sum((2, 3)).to(loss.dtype)
    terms = InfoNCETerms(
        positive_similarity=(positive_VN * temperature)[has_positive].mean(),
        negative_similarity=(logits_VNGM[~positive_VNGM & ~own_VNGM] * temperature).mean(),
        mutual_information_bound=num_targets_VN.log()[has_positive].mean() - loss,
        retrieval_accuracy=(best_VN >= highest_VN)[has_positive].to(loss.dtype).mean(),
    )
    return loss, InfoNCETerms(*(term.detach() for term in terms))


def pairs_of(
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    keep_self: bool,
    labels_B: Tensor | None,
    group: ProcessGroup | None,
) -> Pairs:
    """Over all ranks, with gradient."""
    anchors_VBD, targets_GBD = widened(anchors_VBD, targets_GBD)
    anchors_VND = gather_rows(anchors_VBD, group, dim=1)
    targets_GND = gather_rows(targets_GBD, group, dim=1)
    V, N, _ = anchors_VND.shape
    G = targets_GND.shape[0]
    products_VNGM = torch.einsum("vnd,gmd->vngm", anchors_VND, targets_GND)
    same_image_NM = torch.eye(N, dtype=torch.bool, device=anchors_VBD.device)
    same_view_VG = torch.eye(V, G, dtype=torch.bool, device=anchors_VBD.device)
    own_VNGM = same_image_NM[None, :, None, :] & same_view_VG[:, None, :, None]
    if keep_self:
        own_VNGM = torch.zeros_like(own_VNGM)
    alike_NM = same_image_NM
    if labels_B is not None:
        labels_N = all_gather(labels_B, group)
        alike_NM = labels_N[:, None] == labels_N
    return Pairs(products_VNGM, own_VNGM, alike_NM[None, :, None, :] & ~own_VNGM)


def _over_temperature(pairs: Pairs, temperature: float | Tensor) -> Tensor:
    if isinstance(temperature, Tensor):
        temperature = temperature.to(pairs.products_VNGM.dtype)
    return pairs.products_VNGM / temperature


def _loss(logits_VNGM: Tensor, own_VNGM: Tensor, positive_VNGM: Tensor) -> Tensor:
    lse_VN = logits_VNGM.masked_fill(own_VNGM, -torch.inf).flatten(2).logsumexp(2)
    count_VN = positive_VNGM.sum((2, 3))
    positive_VN = logits_VNGM.masked_fill(~positive_VNGM, 0).sum((2, 3)) / count_VN.clamp(min=1)
    return (lse_VN - positive_VN)[count_VN > 0].mean()
