"""Contrast of pairs by a sigmoid each (SigLIP), over a global batch, on InfoNCE's tiles and exchange."""

from typing import Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.checks import check_finite, check_group
from issl_kernels.info_nce.arguments import as_scalar, check_factor, check_rows, check_scalar, unit_rows
from issl_kernels.path import resolved_path
from issl_kernels.sigmoid_contrastive.autograd import sigmoid_contrastive_by
from issl_kernels.sigmoid_contrastive.chunked import CHUNKED
from issl_kernels.sigmoid_contrastive.reference import sigmoid_contrastive_reference

__all__ = ["sigmoid_contrastive"]


def sigmoid_contrastive(
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    *,
    scale: float | Tensor,
    bias: float | Tensor,
    keep_self: bool,
    normalize: bool = False,
    labels_B: Tensor | None = None,
    exchange: Literal["gather", "ring"] = "gather",
    group: ProcessGroup | None = None,
) -> Tensor:
    """Classifies each pair of an anchor and a target by itself: positive or not. Scalar, in nats per anchor.

    With logits l = scale · a·b + bias, over V·N anchors and G·N targets, N the images of all ranks:

        loss = − 1 / (V·N) · Σ over pairs log σ(l for positives, −l for the others)

    which is SigLIP's (Zhai et al. 2023, arXiv 2303.15343, algorithm 1) with V = G = 1 and ``keep_self`` True; there
    scale and bias are learnt, starting from 10 and −10. The positives of an anchor are the G targets of its image, or
    of its label where there are ``labels_B`` (integers [B]). ``keep_self`` False leaves out the pairs of the same image
    and view: for anchors that are the targets themselves.

    ``anchors_VBD`` [V, B, D], ``targets_GBD`` [G, B, D], V >= G, ``normalize``, ``exchange`` and ``group`` as in
    ``info_nce``. ``scale`` and ``bias``: numbers, or tensors of one element, which get their gradients. Saved for
    backward: the inputs and all ranks' targets (``gather``). Memory as InfoNCE's: never pairs x pairs.

    Raises ValueError for shapes that do not fit, an empty batch, a scale that is not positive, a bias that is not
    finite, or a group that cannot move the tensors; for infinities and NaN where ``ISSL_KERNELS_CHECK`` is 1.
    """
    check_rows(anchors_VBD, targets_GBD, labels_B, exchange)
    check_factor("scale", scale, anchors_VBD)
    check_scalar("bias", bias, anchors_VBD)
    check_group("anchors_VBD", anchors_VBD, group)
    check_finite("anchors_VBD", anchors_VBD)
    check_finite("targets_GBD", targets_GBD)
    path = resolved_path("sigmoid_contrastive", anchors_VBD.device, True)
    with torch.autocast(anchors_VBD.device.type, enabled=False):
        if normalize:
            anchors_VBD, targets_GBD = (unit_rows(rows) for rows in (anchors_VBD, targets_GBD))
        scale, bias = as_scalar(scale, anchors_VBD), as_scalar(bias, anchors_VBD)
        if path == "reference":
            return sigmoid_contrastive_reference(
                anchors_VBD, targets_GBD, scale=scale, bias=bias, keep_self=keep_self, labels_B=labels_B, group=group
            )
        if path == "chunked":
            contrast = CHUNKED
        else:
            from issl_kernels.sigmoid_contrastive.triton_ops import TRITON as contrast
        return sigmoid_contrastive_by(
            contrast,
            anchors_VBD,
            targets_GBD,
            scale,
            bias,
            labels_B,
            keep_self=keep_self,
            exchange=exchange,
            group=group,
        )
