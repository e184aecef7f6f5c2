"""The soft cross-entropy, forward and backward, by whichever path makes statistics and gradients.

Letters: V student views, G target views, B images, C classes.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from issl_kernels.precision import without_autocast


class Statistics(Protocol):
    """Of this rank's images."""

    def __call__(
        self, student_VBC: Tensor, targets_GBC: Tensor, temperature: float, skip_same_view: bool
    ) -> tuple[Tensor, ...]:
        """The loss, then what the gradient needs of each row besides the inputs."""


class Gradients(Protocol):
    """Of the same images."""

    def __call__(
        self,
        student_VBC: Tensor,
        targets_GBC: Tensor,
        rows: tuple[Tensor, ...],
        upstream: Tensor,
        temperature: float,
        skip_same_view: bool,
        overwrite_logits: bool,
    ) -> Tensor:
        """To the student's logits [V, B, C]: new, or in their memory. ``rows``: all of the statistics but the loss."""


class SoftCrossEntropyPath(NamedTuple):
    """A path of the soft cross-entropy."""

    statistics: Statistics
    gradients: Gradients


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student_VBC: Tensor,
        targets_GBC: Tensor,
        temperature: float,
        skip_same_view: bool,
        overwrite_logits: bool,
        path: SoftCrossEntropyPath,
    ) -> Tensor:
        loss, *rows = path.statistics(student_VBC, targets_GBC, temperature, skip_same_view)
        ctx.save_for_backward(student_VBC, targets_GBC, *rows)
        ctx.temperature, ctx.skip_same_view, ctx.overwrite_logits = temperature, skip_same_view, overwrite_logits
        ctx.path = path
        return loss

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        student_VBC, targets_GBC, *rows = ctx.saved_tensors
        d_student_VBC = ctx.path.gradients(
            student_VBC,
            targets_GBC,
            tuple(rows),
            gradients[0],
            ctx.temperature,
            ctx.skip_same_view,
            ctx.overwrite_logits,
        )
        return d_student_VBC, *(None,) * 5


def soft_cross_entropy_by(
    path: SoftCrossEntropyPath,
    student_VBC: Tensor,
    targets_GBC: Tensor,
    *,
    temperature: float,
    skip_same_view: bool,
    overwrite_logits: bool,
) -> Tensor:
    """As ``issl_kernels.soft_cross_entropy``."""
    loss: Tensor = _SoftCrossEntropy.apply(  # type: ignore[no-untyped-call]
        student_VBC, targets_GBC, temperature, skip_same_view, overwrite_logits, path
    )
    return loss
