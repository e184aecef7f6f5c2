"""The soft cross-entropy, forward and backward, by whichever path makes statistics and gradients.

Letters: V student views, G target views, B images, C classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from issl_kernels.precision import without_autocast
from issl_kernels.soft_cross_entropy.settings import Settings


class SoftCrossEntropyPath(NamedTuple):
    """What a path does with this rank's images."""

    statistics: Callable[[Tensor, Tensor, Settings], tuple[Tensor, ...]]
    """(student's logits, targets, settings) → the loss, then what the gradient needs of each row besides the inputs."""
    gradients: Callable[[Tensor, Tensor, tuple[Tensor, ...], Tensor, Settings, bool], Tensor]
    """(student's logits, targets, all of the statistics but the loss, upstream gradient, settings, whether to overwrite
    the logits) → the gradient to the student's logits [V, B, C], new or in their memory."""


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student_VBC: Tensor,
        targets_GBC: Tensor,
        settings: Settings,
        overwrite_logits: bool,
        path: SoftCrossEntropyPath,
    ) -> Tensor:
        loss, *rows = path.statistics(student_VBC, targets_GBC, settings)
        ctx.save_for_backward(student_VBC, targets_GBC, *rows)
        ctx.settings, ctx.overwrite_logits, ctx.path = settings, overwrite_logits, path
        return loss

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        student_VBC, targets_GBC, *rows = ctx.saved_tensors
        d_student_VBC = ctx.path.gradients(
            student_VBC, targets_GBC, tuple(rows), gradients[0], ctx.settings, ctx.overwrite_logits
        )
        return d_student_VBC, *(None,) * 4


def soft_cross_entropy_by(
    path: SoftCrossEntropyPath, student_VBC: Tensor, targets_GBC: Tensor, settings: Settings, overwrite_logits: bool
) -> Tensor:
    """As ``issl_kernels.soft_cross_entropy``."""
    loss: Tensor = _SoftCrossEntropy.apply(  # type: ignore[no-untyped-call]
        student_VBC, targets_GBC, settings, overwrite_logits, path
    )
    return loss
