"""InfoNCE over a global batch: SimCLR (own row dropped) and CISSL (own row kept)."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.checks import check_finite, check_floating, check_positive, check_same
from issl_kernels.info_nce.chunked import info_nce_chunked
from issl_kernels.info_nce.reference import info_nce_reference
from issl_kernels.path import resolved_path


def info_nce(
    anchors_VBD: Tensor, targets_GBD: Tensor, *, temperature: float, keep_self: bool, group: ProcessGroup | None = None
) -> Tensor:
    """Contrastive loss of V·N anchors against G·N targets, N the images of all ranks; scalar, in nats.

    With logits l = a·b / temperature, for the anchor (image i, view v):

        loss = LSE over targets l − mean over positives l

    ``keep_self`` False (SimCLR, Chen et al. 2020): the target of the same image and view is dropped; the positives
    are the other targets of image i. An anchor without positives (G = 1, v = 0) is left out of the mean.
    ``keep_self`` True (CISSL, Dubois et al. 2022): nothing is dropped; the positives are all G targets of image i.

    ``anchors_VBD`` [V, B, D] and ``targets_GBD`` [G, B, D], V >= G, bf16, fp16, fp32 or fp64 (arithmetic in fp32,
    fp64 for fp64), taken as they are: normalise the rows before. Every rank passes its B images; the first G views
    of the anchors are the views of the targets. Gradients of both cross ranks (see collectives). Saved for backward:
    the inputs, all ranks' targets, maximum and sum of each anchor's exponentials; no block of logits is larger than
    ``chunked.BLOCK_ELEMENTS`` (one anchor's row, where that is longer).

    Raises ValueError for shapes that do not fit, an empty batch, temperature <= 0, or no positive at all.
    """
    check_floating("anchors_VBD", anchors_VBD, 3)
    check_floating("targets_GBD", targets_GBD, 3)
    check_same("anchors_VBD", anchors_VBD, "targets_GBD", targets_GBD, (1, 2))
    check_positive("temperature", temperature)
    if targets_GBD.shape[0] > anchors_VBD.shape[0]:
        raise ValueError(
            f"targets_GBD has more views than anchors_VBD: their shapes are {tuple(targets_GBD.shape)} and "
            f"{tuple(anchors_VBD.shape)}"
        )
    if not keep_self and anchors_VBD.shape[0] == 1:
        raise ValueError(
            f"anchors_VBD has one view, shape {tuple(anchors_VBD.shape)}: without its own row no anchor has a positive"
        )
    check_finite("anchors_VBD", anchors_VBD)
    check_finite("targets_GBD", targets_GBD)
    path = resolved_path("info_nce", anchors_VBD.device, False)
    run = info_nce_reference if path == "reference" else info_nce_chunked
    with torch.autocast(anchors_VBD.device.type, enabled=False):
        return run(anchors_VBD, targets_GBD, temperature=temperature, keep_self=keep_self, group=group)
