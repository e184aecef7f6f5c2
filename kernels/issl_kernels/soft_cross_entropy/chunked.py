"""Soft cross-entropy in blocks of images, recomputed in the backward pass.

Letters: V student views, v of them together, G target views, B images, b images of a block, C classes.
"""

import torch
from torch import Tensor

from issl_kernels.precision import arithmetic_dtype
from issl_kernels.soft_cross_entropy.autograd import SoftCrossEntropyPath
from issl_kernels.soft_cross_entropy.settings import Settings
from issl_kernels.view_pairs import below_maximum, image_blocks, shared_targets


def loss_sum_chunked(student_VBC: Tensor, targets_GBC: Tensor, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """(Σ over images and pairs of the loss, maxima [V, B, 1], sums of exponentials [V, B, 1])."""
    dtype = arithmetic_dtype(student_VBC, targets_GBC)
    V, B, C = student_VBC.shape
    maximum_VB1 = torch.empty(V, B, 1, dtype=dtype, device=student_VBC.device)
    sum_VB1 = torch.empty_like(maximum_VB1)
    total = torch.zeros((), dtype=dtype, device=student_VBC.device)
    for rows in image_blocks(B, (V + len(targets_GBC)) * C):
        maximum_VB1[:, rows] = student_VBC[:, rows].amax(-1, keepdim=True)
        below_VbC = below_maximum(student_VBC[:, rows], settings.temperature, maximum_VB1[:, rows])
        t_GbC = targets_GBC[:, rows].to(dtype)
        mass_Vb1 = torch.zeros_like(maximum_VB1[:, rows])
        for views, target_bC, _ in shared_targets(t_GbC, V, settings.skip_same_view):
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
    settings: Settings,
) -> None:
    """Writes upstream times the gradient of the loss's sum, which may be the logits themselves."""
    scale = upstream.to(maximum_VB1.dtype) / settings.temperature
    V, B, C = student_VBC.shape
    for rows in image_blocks(B, (V + len(targets_GBC)) * C):
        s_VbC = below_maximum(student_VBC[:, rows], settings.temperature, maximum_VB1[:, rows]).exp_()
        t_GbC = targets_GBC[:, rows].to(s_VbC.dtype)
        for views, target_bC, _ in shared_targets(t_GbC, V, settings.skip_same_view):
            d_vbC = d_student_VBC[views, rows]
            if target_bC is None:
                d_vbC.zero_()
            else:
                mass_b1 = target_bC.sum(-1, keepdim=True)
                difference_vbC = s_VbC[views].mul_(mass_b1 / sum_VB1[views, rows]).sub_(target_bC)
                torch.mul(difference_vbC, scale, out=d_vbC)


def _statistics(student_VBC: Tensor, targets_GBC: Tensor, settings: Settings) -> tuple[Tensor, ...]:
    total, maximum_VB1, sum_VB1 = loss_sum_chunked(student_VBC, targets_GBC, settings)
    return total / settings.num_terms(student_VBC, targets_GBC), maximum_VB1, sum_VB1


def _gradients(
    student_VBC: Tensor, targets_GBC: Tensor, rows: tuple[Tensor, ...], upstream: Tensor, settings: Settings,
    overwrite_logits: bool,
) -> Tensor:  # fmt: skip
    maximum_VB1, sum_VB1 = rows
    d_student_VBC = student_VBC if overwrite_logits else torch.empty_like(student_VBC)
    of_a_term = upstream / settings.num_terms(student_VBC, targets_GBC)
    store_gradient_chunked(d_student_VBC, student_VBC, targets_GBC, maximum_VB1, sum_VB1, of_a_term, settings)
    return d_student_VBC


CHUNKED = SoftCrossEntropyPath(_statistics, _gradients)
