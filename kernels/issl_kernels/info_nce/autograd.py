"""InfoNCE over ranks, forward and backward, by whichever path makes statistics and gradients.

Letters: V views of the anchors, G of the targets, B images on this rank, D width.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum_, rank
from issl_kernels.info_nce.contrast import Contrast, Rows
from issl_kernels.info_nce.exchange import Exchange, Exchanged, exchanged_gradients
from issl_kernels.info_nce.statistics import RowStatistics
from issl_kernels.info_nce.terms import InfoNCETerms, terms_of
from issl_kernels.precision import arithmetic_dtype, without_autocast


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchors_VBD: Tensor,
        targets_GBD: Tensor,
        temperature: Tensor,
        labels_B: Tensor | None,
        keep_self: bool,
        exchange: Exchange,
        group: ProcessGroup | None,
        contrast: Contrast,
    ) -> tuple[Tensor, ...]:
        first_image = rank(group) * anchors_VBD.shape[1]
        anchors = Rows(anchors_VBD, labels_B, first_image)
        dtype = arithmetic_dtype(anchors_VBD, targets_GBD)
        inverse_temperature = 1 / temperature.to(dtype)
        targets = Exchanged(Rows(targets_GBD, labels_B, first_image), exchange, group)
        statistics: RowStatistics | None = None
        for block in targets.blocks():
            found = contrast.statistics(anchors, block, inverse_temperature, keep_self)
            statistics = found if statistics is None else statistics.join(found)
            del block  # the next may only now take its place
        assert statistics is not None
        loss, num_anchors, terms = terms_of(
            statistics, anchors_VBD, targets_GBD, temperature.to(dtype), keep_self, group
        )
        kept = targets.kept
        ctx.save_for_backward(
            anchors_VBD, kept.rows, kept.labels, labels_B, inverse_temperature, num_anchors, *statistics.for_gradients()
        )
        ctx.group, ctx.exchange, ctx.keep_self, ctx.contrast = group, exchange, keep_self, contrast
        ctx.first_image, ctx.first_kept = first_image, kept.first_image
        ctx.targets_dtype, ctx.temperature_dtype = targets_GBD.dtype, temperature.dtype
        ctx.mark_non_differentiable(*terms)
        return loss, *terms

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        anchors_VBD, kept_rows, kept_labels, labels_B, inverse_temperature, num_anchors, *statistics = ctx.saved_tensors
        # Every rank's copy of the global loss is differentiated, and the copies' gradients add up.
        upstream = all_reduce_sum_(gradients[0].to(inverse_temperature.dtype).clone(), ctx.group)
        scale = upstream * inverse_temperature / num_anchors
        d_anchors, d_targets = exchanged_gradients(
            partial(
                ctx.contrast.gradients,
                inverse_temperature=inverse_temperature,
                keep_self=ctx.keep_self,
                statistics=tuple(statistics),
            ),
            Rows(anchors_VBD, labels_B, ctx.first_image),
            Rows(kept_rows, kept_labels, ctx.first_kept),
            ctx.exchange,
            ctx.group,
        )
        d_temperature = None
        if ctx.needs_input_grad[2]:
            # Every logit is an anchor's product with something, over the temperature.
            products = (anchors_VBD.to(d_anchors.dtype) * d_anchors).sum()
            d_temperature = (-products * scale * inverse_temperature).to(ctx.temperature_dtype)
        return (
            d_anchors.mul_(scale).to(anchors_VBD.dtype),
            d_targets.mul_(scale).to(ctx.targets_dtype),
            d_temperature,
            *(None,) * 5,
        )


def info_nce_by(
    contrast: Contrast,
    anchors_VBD: Tensor,
    targets_GBD: Tensor,
    temperature: Tensor,
    labels_B: Tensor | None,
    *,
    keep_self: bool,
    exchange: Exchange,
    group: ProcessGroup | None,
) -> tuple[Tensor, InfoNCETerms]:
    """As ``issl_kernels.info_nce_with_terms``."""
    loss, *terms = _InfoNCE.apply(  # type: ignore[no-untyped-call]
        anchors_VBD, targets_GBD, temperature, labels_B, keep_self, exchange, group, contrast
    )
    return loss, InfoNCETerms(*terms)
