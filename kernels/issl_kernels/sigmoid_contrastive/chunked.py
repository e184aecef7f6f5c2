"""The sigmoid contrast in blocks of anchors, each against all targets at hand, recomputed in the backward pass.

Letters: V views of the anchors, G of the targets, B images of the anchors, N images of the targets, D width,
R = V·B anchors, T = G·N targets, r anchors of a block.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from issl_kernels.info_nce.chunked import Pairs, gradients_in_blocks
from issl_kernels.info_nce.contrast import Rows
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.sigmoid_contrastive.contrast import SigmoidContrast


def _signed_logits(pairs: Pairs, rows: slice, products_rT: Tensor, bias: Tensor) -> Tensor:
    """Logits of a block [r, T], those of positives negated: the loss of each is softplus. Own rows hold −inf. They
    take the memory of ``products_rT``, which are scaled."""
    signed_rT = products_rT.add_(bias)
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
        signed_rT = _signed_logits(pairs, rows, anchors_RD[rows].to(dtype) @ targets_DT, bias)
        losses_r = -F.logsigmoid(-signed_rT).sum(1)
        parts.append(torch.stack((losses_r, _slopes(pairs, rows, signed_rT).sum(1))))
    return torch.cat(parts, dim=1)


def gradients_chunked(
    anchors: Rows, targets: Rows, scale: Tensor, bias: Tensor, keep_self: bool
) -> tuple[Tensor, Tensor]:
    """See SigmoidContrast."""
    pairs = Pairs(anchors, targets, keep_self)

    def slopes(rows: slice, products_rT: Tensor) -> Tensor:
        return _slopes(pairs, rows, _signed_logits(pairs, rows, products_rT, bias))

    return gradients_in_blocks(pairs, scale, slopes)


CHUNKED = SigmoidContrast(losses_chunked, gradients_chunked)
