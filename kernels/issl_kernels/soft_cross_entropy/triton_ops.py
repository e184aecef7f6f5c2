"""The soft cross-entropy on Triton kernels: launchers, custom operations, autograd.

Letters: V student views, G target views, B images, C classes.
"""

from typing import Any

import torch
from torch import Tensor

from issl_kernels.precision import arithmetic_dtype, without_autocast
from issl_kernels.soft_cross_entropy import triton_kernels as kernels
from issl_kernels.triton_launch import (
    TRITON_DTYPES,
    alignment,
    ceil_div,
    next_power_of_2,
    on_device,
    with_contiguous_rows,
)
from issl_kernels.view_pairs import num_pairs

BLOCK = 1024
"""Classes of a program, which reads all views of an image."""


def _alone(V: int, G: int, skip_same_view: bool) -> int:
    """Student views that lack a target: their own view's."""
    return min(V, G) if skip_same_view else 0


def _block(C: int) -> int:
    return min(BLOCK, next_power_of_2(C))


def _launch_statistics(
    student_VBC: Tensor, targets_GBC: Tensor, temperature: float, skip_same_view: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    student_VBC, targets_GBC = with_contiguous_rows(student_VBC), with_contiguous_rows(targets_GBC)
    (V, B, C), G = student_VBC.shape, len(targets_GBC)
    alone, num_blocks = _alone(V, G, skip_same_view), ceil_div(C, _block(C))
    dtype = arithmetic_dtype(student_VBC, targets_GBC)
    new = student_VBC.new_empty
    partials = new((3 * V + alone + 1, B, num_blocks), dtype=dtype)
    maxima, exponentials = new((V, B), dtype=dtype), new((V, B), dtype=dtype)
    masses, losses = new((alone + 1, B), dtype=dtype), new(B, dtype=dtype)
    with on_device(student_VBC):
        kernels.statistics[(B * num_blocks,)](
            student_VBC, targets_GBC, partials, B, *student_VBC.stride()[:2], *targets_GBC.stride()[:2],
            1 / temperature, V=V, G=G, C=C, ALONE=alone, NUM_BLOCKS=num_blocks, BLOCK=_block(C),
            ALIGN=alignment(student_VBC, targets_GBC), ACC=TRITON_DTYPES[dtype], num_warps=4,
        )  # fmt: skip
        kernels.join_blocks[(B,)](
            partials, maxima, exponentials, masses, losses, B, 1 / temperature, V=V, ALONE=alone,
            NUM_BLOCKS=num_blocks, PADDED=next_power_of_2(num_blocks), num_warps=1,
        )  # fmt: skip
    return losses.sum() / (num_pairs(V, G, skip_same_view) * B), maxima, exponentials, masses


def _launch_gradients(
    student_VBC: Tensor, targets_GBC: Tensor, d_student_VBC: Tensor, maxima: Tensor, exponentials: Tensor,
    masses: Tensor, upstream: Tensor, temperature: float, skip_same_view: bool,
) -> None:  # fmt: skip
    """Writes the gradient, which may be the student's logits themselves."""
    student_VBC, targets_GBC = with_contiguous_rows(student_VBC), with_contiguous_rows(targets_GBC)
    (V, B, C), G = student_VBC.shape, len(targets_GBC)
    num_blocks = ceil_div(C, _block(C))
    with on_device(student_VBC):
        kernels.gradients[(B * num_blocks,)](
            student_VBC, targets_GBC, d_student_VBC, maxima, exponentials, masses, upstream, B,
            *student_VBC.stride()[:2], *targets_GBC.stride()[:2], *d_student_VBC.stride()[:2], 1 / temperature,
            1 / (num_pairs(V, G, skip_same_view) * B), V=V, G=G, C=C, ALONE=_alone(V, G, skip_same_view),
            NUM_BLOCKS=num_blocks, BLOCK=_block(C), ALIGN=alignment(student_VBC, targets_GBC, d_student_VBC),
            ACC=TRITON_DTYPES[maxima.dtype], num_warps=4,
        )  # fmt: skip


@torch.library.custom_op("issl_kernels::soft_cross_entropy_statistics", mutates_args=())
def soft_cross_entropy_statistics(
    student_VBC: Tensor, targets_GBC: Tensor, temperature: float, skip_same_view: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(loss, maxima [V, B], exponentials [V, B], masses of the sums of targets [views left out one by one + 1, B])."""
    return _launch_statistics(student_VBC, targets_GBC, temperature, skip_same_view)


@soft_cross_entropy_statistics.register_fake
def _(
    student_VBC: Tensor, targets_GBC: Tensor, temperature: float, skip_same_view: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = arithmetic_dtype(student_VBC, targets_GBC)
    V, B, _ = student_VBC.shape
    rows = _alone(V, targets_GBC.shape[0], skip_same_view) + 1
    loss, maxima, exponentials, masses = (
        student_VBC.new_empty(shape, dtype=dtype) for shape in ((), (V, B), (V, B), (rows, B))
    )
    return loss, maxima, exponentials, masses


@torch.library.custom_op("issl_kernels::soft_cross_entropy_gradients", mutates_args=())
def soft_cross_entropy_gradients(
    student_VBC: Tensor, targets_GBC: Tensor, maxima: Tensor, exponentials: Tensor, masses: Tensor,
    upstream: Tensor, temperature: float, skip_same_view: bool,
) -> Tensor:  # fmt: skip
    """Gradient to the student's logits [V, B, C]."""
    d_student_VBC = torch.empty_like(student_VBC, memory_format=torch.contiguous_format)
    _launch_gradients(
        student_VBC, targets_GBC, d_student_VBC, maxima, exponentials, masses, upstream, temperature, skip_same_view
    )
    return d_student_VBC


@soft_cross_entropy_gradients.register_fake
def _(
    student_VBC: Tensor, targets_GBC: Tensor, maxima: Tensor, exponentials: Tensor, masses: Tensor,
    upstream: Tensor, temperature: float, skip_same_view: bool,
) -> Tensor:  # fmt: skip
    return torch.empty_like(student_VBC, memory_format=torch.contiguous_format)


@torch.library.custom_op("issl_kernels::soft_cross_entropy_gradients_", mutates_args=("student_VBC",))
def soft_cross_entropy_gradients_(
    student_VBC: Tensor, targets_GBC: Tensor, maxima: Tensor, exponentials: Tensor, masses: Tensor,
    upstream: Tensor, temperature: float, skip_same_view: bool,
) -> None:  # fmt: skip
    """As soft_cross_entropy_gradients, in the memory of the logits, which must be contiguous along the classes."""
    _launch_gradients(
        student_VBC, targets_GBC, student_VBC, maxima, exponentials, masses, upstream, temperature, skip_same_view
    )


@soft_cross_entropy_gradients_.register_fake
def _(
    student_VBC: Tensor, targets_GBC: Tensor, maxima: Tensor, exponentials: Tensor, masses: Tensor,
    upstream: Tensor, temperature: float, skip_same_view: bool,
) -> None:  # fmt: skip
    return None


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
        loss, maxima, exponentials, masses = soft_cross_entropy_statistics(
            student_VBC, targets_GBC, temperature, skip_same_view
        )
        ctx.save_for_backward(student_VBC, targets_GBC, maxima, exponentials, masses)
        ctx.temperature, ctx.skip_same_view, ctx.overwrite_logits = temperature, skip_same_view, overwrite_logits
        return loss

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        student_VBC = ctx.saved_tensors[0]
        arguments = (*ctx.saved_tensors, gradients[0], ctx.temperature, ctx.skip_same_view)
        if ctx.overwrite_logits:
            soft_cross_entropy_gradients_(*arguments)
            return student_VBC, None, None, None, None
        return soft_cross_entropy_gradients(*arguments), None, None, None, None


def soft_cross_entropy_triton(
    student_VBC: Tensor,
    targets_GBC: Tensor,
    *,
    temperature: float,
    skip_same_view: bool = True,
    overwrite_logits: bool = False,
) -> Tensor:
    """As ``issl_kernels.soft_cross_entropy``."""
    return _SoftCrossEntropy.apply(student_VBC, targets_GBC, temperature, skip_same_view, overwrite_logits)
