"""Soft cross-entropy in blocks of images, recomputed in the backward pass.

Letters: V student views, G target views, B images, C classes, b images of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from issl_kernels.precision import arithmetic_dtype, without_autocast

BLOCK_ELEMENTS = 2**17
"""Largest block of one view, in elements (512 KiB in fp32)."""


def image_blocks(num_images: int, num_classes: int) -> Iterator[slice]:
    """Slices of images whose rows fill at most one block (a single image may exceed it)."""
    step = max(1, BLOCK_ELEMENTS // num_classes)
    for start in range(0, num_images, step):
        yield slice(start, min(start + step, num_images))


def num_pairs(V: int, G: int, skip_same_view: bool) -> int:
    """Pairs (target view, student view) that count."""
    return V * G - (min(V, G) if skip_same_view else 0)


def soft_cross_entropy_chunked(
    student_VBC: Tensor, targets_GBC: Tensor, *, temperature: float, skip_same_view: bool = True
) -> Tensor:
    """As ``issl_kernels.soft_cross_entropy``."""
    return _SoftCrossEntropy.apply(student_VBC, targets_GBC, temperature, skip_same_view)


def _target_sums(targets_GBC: Tensor, rows: slice, dtype: torch.dtype, V: int, skip: bool) -> Iterator[Tensor]:
    """For each student view, the sum of the targets that it is compared with [b, C]."""
    all_bC = targets_GBC[:, rows].sum(0, dtype=dtype)
    for j in range(V):
        yield all_bC - targets_GBC[j, rows] if skip and j < len(targets_GBC) else all_bC


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student_VBC: Tensor, targets_GBC: Tensor, temperature: float, skip_same_view: bool) -> Tensor:
        dtype = arithmetic_dtype(student_VBC, targets_GBC)
        V, B, C = student_VBC.shape
        lse_VB = torch.empty(V, B, dtype=dtype, device=student_VBC.device)
        total = torch.zeros((), dtype=dtype, device=student_VBC.device)
        for rows in image_blocks(B, C):
            for j, target_bC in enumerate(_target_sums(targets_GBC, rows, dtype, V, skip_same_view)):
                logits_bC = student_VBC[j, rows].to(dtype) / temperature
                lse_VB[j, rows] = logits_bC.logsumexp(1)
                # Σ t (lse − l), in this order: a large common offset of the logits cancels before it is summed.
                total += (lse_VB[j, rows, None] - logits_bC).mul_(target_bC).sum()
        ctx.save_for_backward(student_VBC, targets_GBC, lse_VB)
        ctx.temperature, ctx.skip_same_view = temperature, skip_same_view
        ctx.normaliser = num_pairs(V, len(targets_GBC), skip_same_view) * B
        return total / ctx.normaliser

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        student_VBC, targets_GBC, lse_VB = ctx.saved_tensors
        dtype = lse_VB.dtype
        V, B, C = student_VBC.shape
        scale = gradients[0].to(dtype) / (ctx.normaliser * ctx.temperature)
        d_student_VBC = torch.empty_like(student_VBC)
        for rows in image_blocks(B, C):
            for j, target_bC in enumerate(_target_sums(targets_GBC, rows, dtype, V, ctx.skip_same_view)):
                logits_bC = student_VBC[j, rows].to(dtype) / ctx.temperature
                d_logits_bC = logits_bC.sub_(lse_VB[j, rows, None]).exp_().mul_(target_bC.sum(1, keepdim=True))
                d_student_VBC[j, rows] = (d_logits_bC.sub_(target_bC) * scale).to(student_VBC.dtype)
        return d_student_VBC, None, None, None
