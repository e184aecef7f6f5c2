"""Soft cross-entropy in blocks of images, recomputed in the backward pass.

Letters: V student views, v of them together, G target views, B images, b images of a block, C classes.
"""

from typing import Any

import torch
from torch import Tensor

from issl_kernels.precision import arithmetic_dtype, without_autocast
from issl_kernels.view_pairs import below_maximum, image_blocks, num_pairs, shared_targets


def soft_cross_entropy_chunked(
    student_VBC: Tensor,
    targets_GBC: Tensor,
    *,
    temperature: float,
    skip_same_view: bool = True,
    overwrite_logits: bool = False,
) -> Tensor:
    """As ``issl_kernels.soft_cross_entropy``."""
    return _SoftCrossEntropy.apply(student_VBC, targets_GBC, temperature, skip_same_view, overwrite_logits)


def loss_sum_chunked(
    student_VBC: Tensor, targets_GBC: Tensor, temperature: float, skip_same_view: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(Σ over images and pairs of the loss, maxima [V, B, 1], sums of exponentials [V, B, 1])."""
    dtype = arithmetic_dtype(student_VBC, targets_GBC)
    V, B, C = student_VBC.shape
    maximum_VB1 = torch.empty(V, B, 1, dtype=dtype, device=student_VBC.device)
    sum_VB1 = torch.empty_like(maximum_VB1)
    total = torch.zeros((), dtype=dtype, device=student_VBC.device)
    for rows in image_blocks(B, (V + len(targets_GBC)) * C):
        maximum_VB1[:, rows] = student_VBC[:, rows].amax(-1, keepdim=True)
        below_VbC = below_maximum(student_VBC[:, rows], temperature, maximum_VB1[:, rows])
        t_GbC = targets_GBC[:, rows].to(dtype)
        mass_Vb1 = torch.zeros_like(maximum_VB1[:, rows])
        for views, target_bC, _ in shared_targets(t_GbC, V, skip_same_view):
            if target_bC is not None:
                mass_Vb1[views] = target_bC.sum(-1, keepdim=True)
                total -= (below_VbC[views] * target_bC).sum()
        sum_VB1[:, rows] = below_VbC.exp_().sum(-1, keepdim=True)
        total += (sum_VB1[:, rows].log() * mass_Vb1).sum()
    return total, maximum_VB1, sum_VB1


def store_gradient_chunked(
    d_student_VBC: Tensor,
    student_VBC: Tensor,
    targets_GBC: Tensor,
    maximum_VB1: Tensor,
    sum_VB1: Tensor,
    upstream: Tensor,
    temperature: float,
    skip_same_view: bool,
) -> None:
    """Writes upstream times the gradient of the loss's sum, which may be the logits themselves."""
    scale = upstream.to(maximum_VB1.dtype) / temperature
    V, B, C = student_VBC.shape
    for rows in image_blocks(B, (V + len(targets_GBC)) * C):
        s_VbC = below_maximum(student_VBC[:, rows], temperature, maximum_VB1[:, rows]).exp_()
        t_GbC = targets_GBC[:, rows].to(s_VbC.dtype)
        for views, target_bC, _ in shared_targets(t_GbC, V, skip_same_view):
            d_vbC = d_student_VBC[views, rows]
            if target_bC is None:
                d_vbC.zero_()
            else:
                mass_b1 = target_bC.sum(-1, keepdim=True)
                difference_vbC = s_VbC[views].mul_(mass_b1 / sum_VB1[views, rows]).sub_(target_bC)
                torch.mul(difference_vbC, scale, out=d_vbC)


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student_VBC: Tensor,
        targets_GBC: Tensor,
        temperature: float,
        skip_same_view: bool,
        overwrite_logits: bool,
    ) -> Tensor:
        total, maximum_VB1, sum_VB1 = loss_sum_chunked(student_VBC, targets_GBC, temperature, skip_same_view)
        ctx.save_for_backward(student_VBC, targets_GBC, maximum_VB1, sum_VB1)
        ctx.temperature, ctx.skip_same_view, ctx.overwrite_logits = temperature, skip_same_view, overwrite_logits
        V, B, _ = student_VBC.shape
        ctx.normaliser = num_pairs(V, len(targets_GBC), skip_same_view) * B
        return total / ctx.normaliser

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        student_VBC, targets_GBC, maximum_VB1, sum_VB1 = ctx.saved_tensors
        d_student_VBC = student_VBC if ctx.overwrite_logits else torch.empty_like(student_VBC)
        store_gradient_chunked(
            d_student_VBC,
            student_VBC,
            targets_GBC,
            maximum_VB1,
            sum_VB1,
            gradients[0] / ctx.normaliser,
            ctx.temperature,
            ctx.skip_same_view,
        )
        return d_student_VBC, None, None, None, None
