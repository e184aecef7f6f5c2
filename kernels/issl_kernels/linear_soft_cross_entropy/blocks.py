"""The soft cross-entropy from features, a block of images at a time, its gradients made in the forward pass.

Each block's logits are made once: their gradient overwrites them and is multiplied at once into the sum of the
weight's gradient and the features' rows. The upstream gradient, known later, is a factor of all of them. So there is
no product more than on the path from logits.

Letters: V student views, G target views, B images, H width of the features, C classes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from issl_kernels.linear_blocks import LinearInBlocks, even_blocks, product_dtype, scaled_
from issl_kernels.linear_soft_cross_entropy.teacher import LinearTeacher
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.soft_cross_entropy.chunked import loss_sum_chunked, store_gradient_chunked
from issl_kernels.soft_cross_entropy.settings import Settings
from issl_kernels.view_pairs import num_pairs

LossSum = Callable[[Tensor, Tensor, Settings, bool], Tensor]
"""(student [V, b, C], targets [G, b, C], settings, with_gradient) → the sum of the loss over images and pairs; if asked
to, its gradient overwrites the student's logits."""


def loss_sum_chunked_(student_VBC: Tensor, targets_GBC: Tensor, settings: Settings, with_gradient: bool) -> Tensor:
    """The chunked path's LossSum."""
    total, maximum_VB1, sum_VB1 = loss_sum_chunked(student_VBC, targets_GBC, settings)
    if with_gradient:
        one = torch.ones_like(total)
        store_gradient_chunked(student_VBC, student_VBC, targets_GBC, maximum_VB1, sum_VB1, one, settings)
    return total


class _LinearSoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features_VBH: Tensor,
        weight_CH: Tensor,
        bias_C: Tensor | None,
        targets: Tensor | LinearTeacher,
        settings: Settings,
        loss_sum_: LossSum,
        dtype: torch.dtype,
    ) -> Tensor:
        V, B, _ = features_VBH.shape
        sum_dtype = arithmetic_dtype(features_VBH)
        wanted = ctx.needs_input_grad[:3]
        student = LinearInBlocks(features_VBH, weight_CH, bias_C, dtype, sum_dtype, wanted)
        total = torch.zeros((), dtype=sum_dtype, device=features_VBH.device)
        bytes_per_image = V * len(weight_CH) * dtype.itemsize
        if isinstance(targets, LinearTeacher):
            G = len(targets.features_GBH)
            teacher = LinearInBlocks(targets.features_GBH, targets.weight_CH, targets.bias_C, dtype, sum_dtype)
            bytes_per_image += G * len(weight_CH) * (dtype.itemsize + 2 * sum_dtype.itemsize)
        else:
            G, teacher = len(targets), None
        for rows in even_blocks(B, bytes_per_image, features_VBH, weight_CH):
            if isinstance(targets, LinearTeacher):
                assert teacher is not None
                targets_GbC = targets.targets(teacher.logits(rows), total)
            else:
                targets_GbC = targets[:, rows]
            student_VbC = student.logits(rows)
            total += loss_sum_(student_VbC, targets_GbC, settings, any(wanted))
            if any(wanted):
                student.add_gradients(student_VbC, rows)
            del student_VbC, targets_GbC
        ctx.normaliser = num_pairs(V, G, settings.skip_same_view) * B
        ctx.save_for_backward(*student.gradients())
        ctx.inputs_like = [None if x is None else x.new_empty(0) for x in (features_VBH, weight_CH, bias_C)]
        loss: Tensor = total / ctx.normaliser
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0] / ctx.normaliser
        scaled = (scaled_(d, scale, like) for d, like in zip(ctx.saved_tensors, ctx.inputs_like, strict=True))
        return *scaled, None, None, None, None


def linear_soft_cross_entropy_in_blocks(
    features_VBH: Tensor,
    weight_CH: Tensor,
    bias_C: Tensor | None,
    targets: Tensor | LinearTeacher,
    settings: Settings,
    loss_sum_: LossSum,
) -> Tensor:
    """As ``issl_kernels.linear_soft_cross_entropy``."""
    dtype = product_dtype(features_VBH)
    with torch.autocast(features_VBH.device.type, enabled=False):
        loss: Tensor = _LinearSoftCrossEntropy.apply(  # type: ignore[no-untyped-call]
            features_VBH, weight_CH, bias_C, targets, settings, loss_sum_, dtype
        )
    return loss
