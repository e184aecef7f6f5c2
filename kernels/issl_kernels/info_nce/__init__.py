"""InfoNCE over a global batch: SimCLR (own row dropped), CISSL (own row kept), and supervised contrast (SupCon)."""

from typing import Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.checks import check_finite, check_group
from issl_kernels.info_nce.arguments import as_scalar, check_factor, check_rows, unit_rows
from issl_kernels.info_nce.autograd import info_nce_by
from issl_kernels.info_nce.chunked import CHUNKED
from issl_kernels.info_nce.reference import info_nce_with_terms_reference
from issl_kernels.info_nce.terms import InfoNCETerms
from issl_kernels.path import resolved_path

__all__ = ["InfoNCETerms", "info_nce", "info_nce_with_terms"]


def info_nce(
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    *,
    temperature: float | Tensor,
    keep_self: bool,
    normalize: bool = False,
    labels_B: Tensor | None = None,
    exchange: Literal["gather", "ring"] = "gather",
    group: ProcessGroup | None = None,
) -> Tensor:
    """Contrastive loss of V·N anchors against G·N targets, N the images of all ranks; scalar, in nats.

    With logits l = a·b / temperature, for the anchor (image i, view v):

        loss = LSE over targets l − mean over positives l

    ``keep_self`` False (SimCLR, Chen et al. 2020): the target of the same image and view is dropped; the positives
    are the other targets of image i. ``keep_self`` True (CISSL, Dubois et al. 2022): nothing is dropped; the positives
    are all G targets of image i. ``labels_B`` (integers [B]): positives are the targets of all images of the same
    label (SupCon, Khosla et al. 2020, equation 2). An anchor without positives (G = 1, v = 0, own row dropped) is left
    out of the mean.

    ``anchors_VBD`` [V, B, D] and ``targets_GBD`` [G, B, D], V >= G, bf16, fp16, fp32 or fp64 (arithmetic in fp32,
    fp64 for fp64), taken as they are unless ``normalize``, which divides rows by their length. ``temperature``: a
    number, or a tensor of one element, which gets its gradient. Every rank passes its B images; the first G views of
    the anchors are the views of the targets. Gradients of anchors and targets cross ranks (see collectives).
    ``exchange`` says how the ranks' targets meet (see ``info_nce.exchange``): ``gather`` holds them all, ``ring`` two
    ranks' at a time.

    Saved for backward: the inputs, all ranks' targets (``gather``), three numbers per anchor. The chunked path holds
    blocks of logits within ``chunked.BLOCK_ELEMENTS`` (one anchor's row, where that is longer) and targets and their
    gradient in fp32; the Triton path no logits, and gradients in fp32 before they are rounded.

    Raises ValueError for shapes that do not fit, an empty batch, temperature <= 0, no positive at all, or a group that
    cannot move the tensors; for infinities and NaN where ``ISSL_KERNELS_CHECK`` is 1.
    """
    loss, _ = info_nce_with_terms(
        anchors_VBD,
        targets_GBD,
        temperature=temperature,
        keep_self=keep_self,
        normalize=normalize,
        labels_B=labels_B,
        exchange=exchange,
        group=group,
    )
    return loss


def info_nce_with_terms(
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    *,
    temperature: float | Tensor,
    keep_self: bool,
    normalize: bool = False,
    labels_B: Tensor | None = None,
    exchange: Literal["gather", "ring"] = "gather",
    group: ProcessGroup | None = None,
) -> tuple[Tensor, InfoNCETerms]:
    """``info_nce`` and its terms for the log, from the same pass."""
    _check(anchors_VBD, targets_GBD, temperature, keep_self, labels_B, exchange, group)
    path = resolved_path("info_nce", anchors_VBD.device, True)
    with torch.autocast(anchors_VBD.device.type, enabled=False):
        if normalize:
            anchors_VBD, targets_GBD = (unit_rows(rows) for rows in (anchors_VBD, targets_GBD))
        temperature = as_scalar(temperature, anchors_VBD)
        if path == "reference":
            return info_nce_with_terms_reference(
                anchors_VBD, targets_GBD, temperature=temperature, keep_self=keep_self, labels_B=labels_B, group=group
            )
        if path == "chunked":
            contrast = CHUNKED
        else:
            from issl_kernels.info_nce.triton_ops import TRITON as contrast
        return info_nce_by(
            contrast,
            anchors_VBD,
            targets_GBD,
            temperature,
            labels_B,
            keep_self=keep_self,
            exchange=exchange,
            group=group,
        )


def _check(
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    temperature: float | Tensor,
    keep_self: bool,
    labels_B: Tensor | None,
    exchange: str,
    group: ProcessGroup | None,
) -> None:
    check_rows(anchors_VBD, targets_GBD, labels_B, exchange)
    check_factor("temperature", temperature, anchors_VBD)
    if not keep_self and anchors_VBD.shape[0] == 1 and labels_B is None:
        raise ValueError(
            f"anchors_VBD has one view, shape {tuple(anchors_VBD.shape)}: without its own row no anchor has a positive"
        )
    check_group("anchors_VBD", anchors_VBD, group)
    check_finite("anchors_VBD", anchors_VBD)
    check_finite("targets_GBD", targets_GBD)
