"""InfoNCE in blocks of anchors, each against all targets, recomputed in the backward pass.

Letters: V views of the anchors, G of the targets, B images on this rank, N = W·B of all ranks, D width,
R = V·B anchors of this rank, T = G·N targets, r anchors of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_gather, all_reduce_sum_, rank, reduce_scatter_rows, world_size
from issl_kernels.precision import arithmetic_dtype, without_autocast

BLOCK_ELEMENTS = 2**21
"""Largest block of logits, in elements (8 MiB in fp32)."""


def info_nce_chunked(
    anchors_VBD: Tensor, targets_GBD: Tensor, *, temperature: float, keep_self: bool, group: ProcessGroup | None = None
) -> Tensor:
    """As ``issl_kernels.info_nce``."""
    return _InfoNCE.apply(anchors_VBD, targets_GBD, temperature, keep_self, group)


class _Layout:
    """Where this rank's anchors find their own image among the targets of all ranks."""

    def __init__(self, V: int, G: int, B: int, keep_self: bool, group: ProcessGroup | None) -> None:
        self.V, self.G, self.B, self.keep_self = V, G, B, keep_self
        self.world_size = world_size(group)
        self.N = B * self.world_size
        self.first_image = rank(group) * B
        self.rows = V * B
        self.block = max(1, min(self.rows, BLOCK_ELEMENTS // (G * self.N)))

    def blocks(self) -> Iterator[slice]:
        for start in range(0, self.rows, self.block):
            yield slice(start, min(start + self.block, self.rows))

    def positive_columns(self, rows: slice, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """For each anchor of the block: its image's columns [r, G], which of them are positives [r, G] and which
        is its own row [r, G], to be dropped."""
        row_r = torch.arange(rows.start, rows.stop, device=device)
        view_r, image_r = row_r // self.B, row_r % self.B + self.first_image
        views_G = torch.arange(self.G, device=device)
        columns_rG = views_G * self.N + image_r[:, None]
        own_rG = view_r[:, None] == views_G
        if self.keep_self:
            own_rG = torch.zeros_like(own_rG)
        return columns_rG, ~own_rG, own_rG

    @property
    def num_anchors(self) -> int:
        """Anchors with a positive, over all ranks: the denominator of the mean."""
        views = self.V - 1 if self.G == 1 and not self.keep_self else self.V
        return views * self.N


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchors_VBD: Tensor,
        targets_GBD: Tensor,
        temperature: float,
        keep_self: bool,
        group: ProcessGroup | None,
    ) -> Tensor:
        dtype = arithmetic_dtype(anchors_VBD, targets_GBD)
        V, B, D = anchors_VBD.shape
        layout = _Layout(V, targets_GBD.shape[0], B, keep_self, group)
        anchors_RD = anchors_VBD.reshape(-1, D)
        targets_TD = all_gather(targets_GBD, group, dim=1).reshape(-1, D)
        targets_DT = targets_TD.to(dtype).T / temperature
        maximum_R1, sum_R1 = torch.empty(2, layout.rows, 1, dtype=dtype, device=anchors_VBD.device)
        total = torch.zeros((), dtype=dtype, device=anchors_VBD.device)
        for rows in layout.blocks():
            logits_rT = anchors_RD[rows].to(dtype) @ targets_DT
            columns_rG, positive_rG, own_rG = layout.positive_columns(rows, anchors_VBD.device)
            positives_rG = logits_rT.gather(1, columns_rG)
            if not keep_self:
                logits_rT.scatter_(1, columns_rG, positives_rG.masked_fill(own_rG, -torch.inf))
            count_r1 = positive_rG.sum(1, keepdim=True)
            # The maximum stays apart from the log of the sum, whose digits it would swallow where logits share a large
            # offset. Infinity marks an anchor without positives: its probabilities in the backward pass are then zero.
            maximum_r1 = logits_rT.amax(1, keepdim=True).masked_fill_(count_r1 == 0, torch.inf)
            sum_r1 = logits_rT.sub_(maximum_r1).exp_().sum(1, keepdim=True).masked_fill_(count_r1 == 0, 1)
            gap_r1 = torch.where(positive_rG, maximum_r1 - positives_rG, 0).sum(1, keepdim=True)
            total += (sum_r1.log() + gap_r1 / count_r1.clamp(min=1)).sum()
            maximum_R1[rows], sum_R1[rows] = maximum_r1, sum_r1
        all_reduce_sum_(total, group)
        ctx.save_for_backward(anchors_VBD, targets_TD, maximum_R1, sum_R1)
        ctx.layout, ctx.temperature, ctx.group, ctx.targets_shape = layout, temperature, group, targets_GBD.shape
        return total / layout.num_anchors

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        anchors_VBD, targets_TD, maximum_R1, sum_R1 = ctx.saved_tensors
        layout, temperature, group = ctx.layout, ctx.temperature, ctx.group
        dtype = maximum_R1.dtype
        # Every rank's copy of the global loss is differentiated, and the copies' gradients add up.
        gradient = all_reduce_sum_(gradients[0].to(dtype).clone(), group)
        scale = gradient / (layout.num_anchors * temperature)
        anchors_RD = anchors_VBD.reshape(layout.rows, -1)
        wide_TD = targets_TD.to(dtype)
        targets_DT = wide_TD.T / temperature
        d_anchors_RD = torch.empty_like(anchors_RD)
        d_targets_TD = torch.zeros_like(wide_TD)
        for rows in layout.blocks():
            block_rD = anchors_RD[rows].to(dtype)
            d_logits_rT = (block_rD @ targets_DT).sub_(maximum_R1[rows]).exp_().mul_(scale / sum_R1[rows])
            columns_rG, positive_rG, own_rG = layout.positive_columns(rows, anchors_VBD.device)
            share_rG = positive_rG * (scale / positive_rG.sum(1, keepdim=True).clamp(min=1))
            d_logits_rT.scatter_(1, columns_rG, torch.where(own_rG, 0, d_logits_rT.gather(1, columns_rG)) - share_rG)
            d_anchors_RD[rows] = (d_logits_rT @ wide_TD).to(d_anchors_RD.dtype)
            d_targets_TD.addmm_(d_logits_rT.T, block_rD)
        G, _, D = ctx.targets_shape
        d_targets_GND = d_targets_TD.view(G, layout.N, D)
        d_targets_GBD = reduce_scatter_rows(d_targets_GND, group, dim=1).to(targets_TD.dtype)
        return d_anchors_RD.view_as(anchors_VBD), d_targets_GBD, None, None, None
