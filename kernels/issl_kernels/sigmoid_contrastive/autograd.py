"""The sigmoid contrast over ranks, forward and backward, by whichever path makes losses and gradients."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum_, rank, world_size
from issl_kernels.info_nce.contrast import Rows
from issl_kernels.info_nce.exchange import Exchange, Exchanged, exchanged_gradients
from issl_kernels.precision import arithmetic_dtype, without_autocast
from issl_kernels.sigmoid_contrastive.contrast import SigmoidContrast


class _SigmoidContrastive(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchors_VBD: Tensor,
        targets_GBD: Tensor,
        scale: Tensor,
        bias: Tensor,
        labels_B: Tensor | None,
        keep_self: bool,
        exchange: Exchange,
        group: ProcessGroup | None,
        contrast: SigmoidContrast,
    ) -> Tensor:
        V, B, _ = anchors_VBD.shape
        first_image = rank(group) * B
        anchors = Rows(anchors_VBD, labels_B, first_image)
        dtype = arithmetic_dtype(anchors_VBD, targets_GBD)
        wide_scale, wide_bias = scale.to(dtype), bias.to(dtype)
        targets = Exchanged(Rows(targets_GBD, labels_B, first_image), exchange, group)
        sums = torch.zeros(2, dtype=dtype, device=anchors_VBD.device)
        for block in targets.blocks():
            sums += contrast.losses(anchors, block, wide_scale, wide_bias, keep_self).sum(1)
            del block  # the next may only now take its place
        num_anchors = V * B * world_size(group)
        loss = all_reduce_sum_(sums[0].clone(), group) / num_anchors
        kept = targets.kept
        ctx.save_for_backward(anchors_VBD, kept.rows, kept.labels, labels_B, wide_scale, wide_bias, sums[1])
        ctx.group, ctx.exchange, ctx.keep_self, ctx.contrast = group, exchange, keep_self, contrast
        ctx.first_image, ctx.first_kept, ctx.num_anchors = first_image, kept.first_image, num_anchors
        ctx.dtypes = targets_GBD.dtype, scale.dtype, bias.dtype
        ctx.shapes = scale.shape, bias.shape
        return loss

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        anchors_VBD, kept_rows, kept_labels, labels_B, scale, bias, slopes = ctx.saved_tensors
        # Every rank's copy of the global loss is differentiated, and the copies' gradients add up.
        upstream = all_reduce_sum_(gradients[0].to(scale.dtype).clone(), ctx.group) / ctx.num_anchors
        d_anchors, d_targets = exchanged_gradients(
            partial(ctx.contrast.gradients, scale=scale, bias=bias, keep_self=ctx.keep_self),
            Rows(anchors_VBD, labels_B, ctx.first_image),
            Rows(kept_rows, kept_labels, ctx.first_kept),
            ctx.exchange,
            ctx.group,
        )
        targets_dtype, scale_dtype, bias_dtype = ctx.dtypes
        scale_shape, bias_shape = ctx.shapes
        d_scale = d_bias = None
        if ctx.needs_input_grad[2]:
            products = (anchors_VBD.to(d_anchors.dtype) * d_anchors).sum()
            d_scale = (products * upstream).to(scale_dtype).view(scale_shape)
        if ctx.needs_input_grad[3]:
            d_bias = (slopes * upstream).to(bias_dtype).view(bias_shape)
        factor = upstream * scale
        return (
            d_anchors.mul_(factor).to(anchors_VBD.dtype),
            d_targets.mul_(factor).to(targets_dtype),
            d_scale,
            d_bias,
            *(None,) * 5,
        )


def sigmoid_contrastive_by(
    contrast: SigmoidContrast,
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    scale: Tensor,
    bias: Tensor,
    labels_B: Tensor | None,
    *,
    keep_self: bool,
    exchange: Exchange,
    group: ProcessGroup | None,
) -> Tensor:
    """As ``issl_kernels.sigmoid_contrastive``."""
    loss: Tensor = _SigmoidContrastive.apply(  # type: ignore[no-untyped-call]
        anchors_VBD, targets_GBD, scale, bias, labels_B, keep_self, exchange, group, contrast
    )
    return loss
