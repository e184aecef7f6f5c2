"""The DISSL loss from features, a block of images at a time, its gradients made in the forward pass.

The marginals of the whole batch must be known before the gradient of any teacher row. So the teacher's logits are made
twice, first for the marginals alone, then with the student's for everything else: the gradient of a block's logits
overwrites them and is multiplied at once into the sums of the weights' gradients and the features' rows. The upstream
gradient, known later, is a factor of all of them. That is one product more, of the teacher's rows, than the path from
logits makes, and nothing of the size of all logits.

Letters: G teacher views, V student views, B images on this rank, N of all ranks, H width of the features, C classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum_, world_size
from issl_kernels.distillation.chunked import (
    Sums,
    add_cross_terms_chunked_,
    add_mass_chunked,
    loss_and_terms,
)
from issl_kernels.distillation.settings import Settings
from issl_kernels.distillation.terms import DistillationTerms
from issl_kernels.linear_blocks import LinearInBlocks, even_blocks, product_dtype, scaled_
from issl_kernels.precision import arithmetic_dtype


class LogitsPath(NamedTuple):
    """What is done to a block's logits."""

    add_mass: Callable[[Tensor, Settings, Sums], None]
    """Adds the marginals and used classes of a block of teacher logits."""
    add_cross_terms_: Callable[[Tensor, Tensor, Settings, Sums, Tensor, bool], None]
    """Adds the cross terms of a block, given the marginals of the whole batch; if asked to, overwrites the logits with
    the gradient of (number of images · loss)."""


CHUNKED = LogitsPath(add_mass_chunked, add_cross_terms_chunked_)


class _LinearDistillation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        teacher_features_GBH: Tensor,
        teacher_weight_CH: Tensor,
        teacher_bias_C: Tensor | None,
        student_features_VBH: Tensor,
        student_weight_CH: Tensor,
        student_bias_C: Tensor | None,
        settings: Settings,
        path: LogitsPath,
        dtype: torch.dtype,
        group: ProcessGroup | None,
    ) -> tuple[Tensor, ...]:
        (G, B, _), V, C = teacher_features_GBH.shape, len(student_features_VBH), len(teacher_weight_CH)
        sum_dtype = arithmetic_dtype(teacher_features_GBH, student_features_VBH)
        teacher_inputs = (teacher_features_GBH, teacher_weight_CH, teacher_bias_C)
        student_inputs = (student_features_VBH, student_weight_CH, student_bias_C)
        wanted = ctx.needs_input_grad
        teacher = LinearInBlocks(*teacher_inputs, dtype, sum_dtype, wanted[:3])
        student = LinearInBlocks(*student_inputs, dtype, sum_dtype, wanted[3:6])
        large = (teacher_features_GBH, teacher_weight_CH, student_features_VBH, student_weight_CH)
        blocks = list(even_blocks(B, (G + V) * C * dtype.itemsize, *large))
        sums = Sums(G, C, sum_dtype, teacher_features_GBH.device)
        for rows in blocks:
            path.add_mass(teacher.logits(rows), settings, sums)
        sums.reduce_mass(group)
        ctx.num_images = B * world_size(group)
        marginal_GC = sums.mass_GC / ctx.num_images
        for rows in blocks:
            teacher_GbC, student_VbC = teacher.logits(rows), student.logits(rows)
            path.add_cross_terms_(teacher_GbC, student_VbC, settings, sums, marginal_GC, any(wanted))
            if any(wanted):
                teacher.add_gradients(teacher_GbC, rows)
                student.add_gradients(student_VbC, rows)
            del teacher_GbC, student_VbC
        sums.reduce_cross(group)
        loss, _, terms = loss_and_terms(sums, settings, ctx.num_images, V)
        ctx.save_for_backward(*teacher.gradients(), *student.gradients())
        ctx.inputs_like = [None if x is None else x.new_empty(0) for x in (*teacher_inputs, *student_inputs)]
        ctx.group = group
        ctx.mark_non_differentiable(*terms)
        return loss, *terms

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # Every rank's copy of the global loss is differentiated, and the copies' gradients add up.
        scale = all_reduce_sum_(gradients[0].clone(), ctx.group) / ctx.num_images
        scaled = (scaled_(d, scale, like) for d, like in zip(ctx.saved_tensors, ctx.inputs_like, strict=True))
        return *scaled, None, None, None, None


def linear_distillation_in_blocks(
    teacher: tuple[Tensor, Tensor, Tensor | None],
    student: tuple[Tensor, Tensor, Tensor | None],
    settings: Settings,
    path: LogitsPath,
    group: ProcessGroup | None,
) -> tuple[Tensor, DistillationTerms]:
    """As ``issl_kernels.linear_distillation``; teacher and student are (features, weight, bias)."""
    dtype = product_dtype(student[0])
    with torch.autocast(student[0].device.type, enabled=False):
        loss, *terms = _LinearDistillation.apply(  # type: ignore[no-untyped-call]
            *teacher, *student, settings, path, dtype, group
        )
    return loss, DistillationTerms(*terms)
