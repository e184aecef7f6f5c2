"""The sigmoid contrast in blocks of anchors, each against all targets at hand, recomputed in the backward pass.

Letters: V views of the anchors, G of the targets, B images of the anchors, N images of the targets, D width,
R = V·B anchors, T = G·N targets, r anchors of a block.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from issl_kernels.info_nce.chunked import Pairs
from issl_kernels.info_nce.contrast import Rows
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.sigmoid_contrastive.contrast import SigmoidContrast


def _signed_logits(pairs: Pairs, rows: slice, block_rD: Tensor, targets_DT: Tensor, bias: Tensor) -> Tensor:
    """Logits of a block [r, T], those of positives negated: the loss of each is softplus. Own rows hold −inf."""
    signed_rT = (block_rD @ targets_DT).add_(bias)
    columns_rG, here_r1, own_rG = pairs.of_image(rows)
    of_image_rG = signed_rT.gather(1, columns_rG)
    if pairs.anchors.labels is None:
        of_image_rG = torch.where(here_r1, -of_image_rG, of_image_rG)
    else:
        positive_rT = pairs.of_label(rows, own_rG, columns_rG)
        torch.where(positive_rT, -signed_rT, signed_rT, out=signed_rT)
        of_image_rG = signed_rT.gather(1, columns_rG)
    return signed_rT.scatter_(1, columns_rG, of_image_rG.masked_fill(own_rG, -torch.inf))


def _slopes(pairs: Pairs, rows: slice, signed_rT: Tensor) -> Tensor:
    """Of the losses by the logits [r, T], in the memory of ``signed_rT``."""
    slopes_rT = signed_rT.sigmoid_()
    columns_rG, here_r1, own_rG = pairs.of_image(rows)
    if pairs.anchors.labels is None:
        of_image_rG = slopes_rT.gather(1, columns_rG)
        return slopes_rT.scatter_(1, columns_rG, torch.where(here_r1, -of_image_rG, of_image_rG))
    return torch.where(pairs.of_label(rows, own_rG, columns_rG), -slopes_rT, slopes_rT, out=slopes_rT)


def losses_chunked(anchors: Rows, targets: Rows, scale: Tensor, bias: Tensor, keep_self: bool) -> Tensor:
    """See SigmoidContrast."""
    pairs = Pairs(anchors, targets, keep_self)
    dtype = arithmetic_dtype(anchors.rows, targets.rows)
    anchors_RD = anchors.rows.flatten(0, 1)
    targets_DT = (targets.rows.flatten(0, 1).to(dtype) * scale).T
    parts = []
    for rows in pairs.blocks():
        signed_rT = _signed_logits(pairs, rows, anchors_RD[rows].to(dtype), targets_DT, bias)
        losses_r = -F.logsigmoid(-signed_rT).sum(1)
        parts.append(torch.stack((losses_r, _slopes(pairs, rows, signed_rT).sum(1))))
    return torch.cat(parts, dim=1)


def gradients_chunked(
    anchors: Rows, targets: Rows, scale: Tensor, bias: Tensor, keep_self: bool
) -> tuple[Tensor, Tensor]:
    """See SigmoidContrast."""
    pairs = Pairs(anchors, targets, keep_self)
    dtype = arithmetic_dtype(anchors.rows, targets.rows)
    anchors_RD = anchors.rows.flatten(0, 1)
    wide_TD = targets.rows.flatten(0, 1).to(dtype)
    targets_DT = (wide_TD * scale).T
    d_anchors_RD = torch.empty(anchors_RD.shape, dtype=dtype, device=anchors_RD.device)
    d_targets_TD = torch.zeros_like(wide_TD)
    for rows in pairs.blocks():
        block_rD = anchors_RD[rows].to(dtype)
        slopes_rT = _slopes(pairs, rows, _signed_logits(pairs, rows, block_rD, targets_DT, bias))
        torch.mm(slopes_rT, wide_TD, out=d_anchors_RD[rows])
        d_targets_TD.addmm_(slopes_rT.T, block_rD)
    return d_anchors_RD.view_as(anchors.rows), d_targets_TD.view_as(targets.rows)


CHUNKED = SigmoidContrast(losses_chunked, gradients_chunked)
