"""How the targets of all ranks meet this rank's anchors: gathered at once, or passing by in a ring.

``gather`` holds all ranks' targets; their gradient is summed over ranks and cut back (reduce-scatter). ``ring`` holds
two ranks' targets at a time: while one block is compared, the next arrives, and on the way back each block carries its
gradient with it, so memory does not grow with the number of ranks (as Inf-CL does for CLIP, arXiv 2410.17243). Both
give the values and gradients of one process that holds all rows, up to rounding.

Letters: V views of the anchors, G of the targets, B images on this rank, N of all ranks, D width.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_gather, all_reduce_sum_, rank, reduce_scatter_rows, world_size
from issl_kernels.info_nce.contrast import Contrast, Rows
from issl_kernels.info_nce.statistics import RowStatistics
from issl_kernels.info_nce.terms import InfoNCETerms, terms_of
from issl_kernels.precision import arithmetic_dtype, without_autocast

Exchange = Literal["gather", "ring"]


class Passing:
    """Tensors on their way to the next rank, and those that arrive from the one before."""

    def __init__(self, tensors: list[Tensor], group: ProcessGroup) -> None:
        size, here = world_size(group), rank(group)
        after, before = (dist.get_global_rank(group, (here + step) % size) for step in (1, -1))
        self._sent = [tensor.contiguous() for tensor in tensors]
        self._arriving = [torch.empty_like(tensor) for tensor in self._sent]
        operations = []
        for tag, (sent, arriving) in enumerate(zip(self._sent, self._arriving, strict=True)):
            operations.append(dist.P2POp(dist.isend, sent, after, group, tag))
            operations.append(dist.P2POp(dist.irecv, arriving, before, group, tag))
        self._pending = dist.batch_isend_irecv(operations)

    def wait(self) -> list[Tensor]:
        """What has arrived. What was sent is let go."""
        for work in self._pending:
            work.wait()
        self._sent, arrived = [], self._arriving
        self._arriving = []
        return arrived


def _tensors(targets: Rows) -> list[Tensor]:
    return [targets.rows] if targets.labels is None else [targets.rows, targets.labels]


def _blocks_in_a_ring(own: Rows, group: ProcessGroup) -> Iterator[Rows]:
    """Every rank's targets, ours first; the next block is on its way while one is used."""
    size, here, B = world_size(group), rank(group), own.rows.shape[1]
    at_hand = [own]  # popped, so that a block whose turn is over is held by nobody
    for step in range(size):
        passing = Passing(_tensors(at_hand[0]), group) if step + 1 < size else None
        yield at_hand.pop()
        if passing is not None:
            at_hand.append(_arrived(passing.wait(), (here - step - 1) % size * B))


def _arrived(tensors: list[Tensor], first_image: int) -> Rows:
    rows, *labels = tensors
    return Rows(rows, labels[0] if labels else None, first_image)


def _gathered(own: Rows, group: ProcessGroup | None) -> Rows:
    labels = None if own.labels is None else all_gather(own.labels, group)
    return Rows(all_gather(own.rows, group, dim=1), labels, 0)


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
        anchors, own = Rows(anchors_VBD, labels_B, first_image), Rows(targets_GBD, labels_B, first_image)
        dtype = arithmetic_dtype(anchors_VBD, targets_GBD)
        inverse_temperature = 1 / temperature.to(dtype)
        blocks = (
            iter([_gathered(own, group)]) if group is None or exchange == "gather" else _blocks_in_a_ring(own, group)
        )
        statistics: RowStatistics | None = None
        kept = own  # a ring's blocks come by once more in the backward pass; gathered targets stay for it
        for block in blocks:
            found = contrast.statistics(anchors, block, inverse_temperature, keep_self)
            statistics = found if statistics is None else statistics.join(found)
            if exchange == "gather":
                kept = block
            del block  # the next may only now take its place
        assert statistics is not None
        loss, num_anchors, terms = terms_of(
            statistics, anchors_VBD, targets_GBD, temperature.to(dtype), keep_self, group
        )
        ctx.save_for_backward(
            anchors_VBD, kept.rows, kept.labels, labels_B, inverse_temperature, num_anchors, *statistics.for_gradients()
        )
        ctx.group, ctx.exchange, ctx.keep_self, ctx.contrast = group, exchange, keep_self, contrast
        ctx.first_image, ctx.targets_dtype, ctx.temperature_dtype = first_image, targets_GBD.dtype, temperature.dtype
        ctx.mark_non_differentiable(*terms)
        return loss, *terms

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        anchors_VBD, kept_rows, kept_labels, labels_B, inverse_temperature, num_anchors, *statistics = ctx.saved_tensors
        anchors = Rows(anchors_VBD, labels_B, ctx.first_image)
        # Every rank's copy of the global loss is differentiated, and the copies' gradients add up.
        upstream = all_reduce_sum_(gradients[0].to(inverse_temperature.dtype).clone(), ctx.group)
        scale = upstream * inverse_temperature / num_anchors
        settings = (inverse_temperature, ctx.keep_self, tuple(statistics))
        if ctx.group is not None and ctx.exchange == "ring":
            own = Rows(kept_rows, kept_labels, ctx.first_image)
            d_anchors, d_targets = _gradients_in_a_ring(ctx.contrast, anchors, own, settings, ctx.group)
        else:
            d_anchors, d_all = ctx.contrast.gradients(anchors, Rows(kept_rows, kept_labels, 0), *settings)
            d_targets = reduce_scatter_rows(d_all, ctx.group, dim=1)
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


def _gradients_in_a_ring(
    contrast: Contrast, anchors: Rows, own: Rows, settings: Any, group: ProcessGroup
) -> tuple[Tensor, Tensor]:
    """Each block of targets takes its gradient along and is home again after as many steps as there are ranks."""
    d_anchors: Tensor | None = None
    travelling: Tensor | None = None
    for block in _blocks_in_a_ring(own, group):
        d_anchors_part, d_block = contrast.gradients(anchors, block, *settings)
        del block
        d_anchors = d_anchors_part if d_anchors is None else d_anchors.add_(d_anchors_part)
        d_block = d_block if travelling is None else d_block.add_(travelling)
        del d_anchors_part
        (travelling,) = Passing([d_block], group).wait()
        del d_block
    assert d_anchors is not None
    assert travelling is not None
    return d_anchors, travelling


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
    loss, *terms = _InfoNCE.apply(anchors_VBD, targets_GBD, temperature, labels_B, keep_self, exchange, group, contrast)
    return loss, InfoNCETerms(*terms)
