"""InfoNCE in blocks of anchors, each against all targets at hand, recomputed in the backward pass.

Letters: V views of the anchors, G of the targets, B images of the anchors, N images of the targets, D width,
R = V·B anchors, T = G·N targets, r anchors of a block.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from issl_kernels.info_nce.contrast import Contrast, Rows
from issl_kernels.info_nce.statistics import RowStatistics
from issl_kernels.precision import arithmetic_dtype

BLOCK_ELEMENTS = 2**21
"""Largest block of logits, in elements (8 MiB in fp32)."""


class Pairs:
    """Which targets are an anchor's positives, and which is its own row."""

    def __init__(self, anchors: Rows, targets: Rows, keep_self: bool) -> None:
        self.anchors, self.targets, self.keep_self = anchors, targets, keep_self
        (self.V, self.B, _), (self.G, self.N, _) = anchors.rows.shape, targets.rows.shape
        self.device = anchors.rows.device

    def blocks(self) -> Iterator[slice]:
        rows = self.V * self.B
        step = max(1, min(rows, BLOCK_ELEMENTS // (self.G * self.N)))
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows))

    def of_image(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """For each anchor of the block: its image's columns [r, G], whether they are among these targets [r, 1], and
        which of them is its own row [r, G], to be left out."""
        row_r = torch.arange(rows.start, rows.stop, device=self.device)
        view_r = row_r // self.B
        image_r = row_r % self.B + self.anchors.first_image - self.targets.first_image
        here_r1 = ((image_r >= 0) & (image_r < self.N))[:, None]
        views_G = torch.arange(self.G, device=self.device)
        columns_rG = views_G * self.N + image_r.clamp(0, self.N - 1)[:, None]
        own_rG = (view_r[:, None] == views_G) & here_r1
        return columns_rG, here_r1, torch.zeros_like(own_rG) if self.keep_self else own_rG

    def of_label(self, rows: slice, own_rG: Tensor, columns_rG: Tensor) -> Tensor:
        """Which targets are positives [r, T], where positives have the anchor's label."""
        assert self.anchors.labels is not None
        assert self.targets.labels is not None
        row_r = torch.arange(rows.start, rows.stop, device=self.device)
        label_r = self.anchors.labels[row_r % self.B]
        positive_rT = label_r[:, None] == self.targets.labels.repeat(self.G)
        return positive_rT.scatter_(1, columns_rG, positive_rT.gather(1, columns_rG) & ~own_rG)


def gradients_in_blocks(
    pairs: Pairs, factor: Tensor, slopes: Callable[[slice, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(Σ_targets d_l · b, Σ_anchors d_l · a) as anchors and targets are shaped. ``slopes`` makes d_l of a block of
    anchors, in the memory of their products with all targets times ``factor`` [r, T]."""
    anchors, targets = pairs.anchors.rows, pairs.targets.rows
    dtype = arithmetic_dtype(anchors, targets)
    anchors_RD, wide_TD = anchors.flatten(0, 1), targets.flatten(0, 1).to(dtype)
    targets_DT = (wide_TD * factor).T
    d_anchors_RD = torch.empty(anchors_RD.shape, dtype=dtype, device=anchors_RD.device)
    d_targets_TD = torch.zeros_like(wide_TD)
    for rows in pairs.blocks():
        block_rD = anchors_RD[rows].to(dtype)
        slope_rT = slopes(rows, block_rD @ targets_DT)
        torch.mm(slope_rT, wide_TD, out=d_anchors_RD[rows])
        d_targets_TD.addmm_(slope_rT.T, block_rD)
    return d_anchors_RD.view_as(anchors), d_targets_TD.view_as(targets)


def statistics_chunked(
    anchors: Rows, targets: Rows, inverse_temperature: Tensor, keep_self: bool
) -> RowStatistics:  # fmt: skip
    """See Contrast."""
    pairs = Pairs(anchors, targets, keep_self)
    dtype = arithmetic_dtype(anchors.rows, targets.rows)
    anchors_RD = anchors.rows.flatten(0, 1)
    targets_DT = (targets.rows.flatten(0, 1).to(dtype) * inverse_temperature).T
    parts = []
    for rows in pairs.blocks():
        logits_rT = anchors_RD[rows].to(dtype) @ targets_DT
        columns_rG, here_r1, own_rG = pairs.of_image(rows)
        own_logits_rG = logits_rT.gather(1, columns_rG)
        if not keep_self:
            logits_rT.scatter_(1, columns_rG, own_logits_rG.masked_fill(own_rG, -torch.inf))
        maximum_r1 = logits_rT.amax(1, keepdim=True)
        level_r1 = maximum_r1.masked_fill(maximum_r1 == -torch.inf, 0)
        if anchors.labels is None:
            positive, candidates = here_r1 & ~own_rG, own_logits_rG
        else:
            positive, candidates = pairs.of_label(rows, own_rG, columns_rG), logits_rT
        gaps = level_r1 - candidates
        count_r, gap_r = positive.sum(1).to(dtype), torch.where(positive, gaps, 0).sum(1)
        least_gap_r = torch.where(positive, gaps, torch.inf).amin(1)
        exponentials_r = logits_rT.sub_(level_r1).exp_().sum(1)
        parts.append((maximum_r1[:, 0], exponentials_r, count_r, gap_r, least_gap_r))
    return RowStatistics(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def gradients_chunked(
    anchors: Rows,
    targets: Rows,
    inverse_temperature: Tensor,
    keep_self: bool,
    statistics: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """See Contrast."""
    pairs = Pairs(anchors, targets, keep_self)
    maximum_R, inverse_sum_R, inverse_count_R = statistics

    def slopes(rows: slice, logits_rT: Tensor) -> Tensor:
        slope_rT = logits_rT.sub_(maximum_R[rows, None]).exp_().mul_(inverse_sum_R[rows, None])
        columns_rG, here_r1, own_rG = pairs.of_image(rows)
        share_r1 = inverse_count_R[rows, None]
        of_image_rG = torch.where(own_rG, 0, slope_rT.gather(1, columns_rG))
        if anchors.labels is None:
            of_image_rG = of_image_rG - share_r1 * (here_r1 & ~own_rG)
        slope_rT.scatter_(1, columns_rG, of_image_rG)
        if anchors.labels is not None:
            slope_rT.sub_(share_r1 * pairs.of_label(rows, own_rG, columns_rG))
        return slope_rT

    return gradients_in_blocks(pairs, inverse_temperature, slopes)


CHUNKED = Contrast(statistics_chunked, gradients_chunked)
