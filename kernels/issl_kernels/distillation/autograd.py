"""The DISSL loss over ranks, forward and backward, by whichever path makes the loss and its gradients.

Letters: G teacher views, V student views, B images on this rank, C classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum_, world_size
from issl_kernels.distillation.settings import Settings
from issl_kernels.distillation.terms import DistillationTerms
from issl_kernels.precision import without_autocast


class DistillationPath(NamedTuple):
    """What a path does with this rank's logits. Images are counted over all ranks."""

    forward: Callable[[Tensor, Tensor, Settings, int, ProcessGroup | None], tuple[Tensor, Tensor, tuple[Tensor, ...]]]
    """(teacher's logits, student's, settings, number of images, group) → (loss, its DistillationTerms [8], what the
    gradients need besides the logits, in the arithmetic dtype)."""
    gradients: Callable[[Tensor, Tensor, tuple[Tensor, ...], Tensor, Settings, int, bool], tuple[Tensor, Tensor]]
    """(teacher's logits, student's, the last of the forward pass's results, upstream gradient summed over ranks,
    settings, number of images, whether to overwrite the logits) → the gradients to teacher [G, B, C] and student
    [V, B, C] logits, new or in their memory."""


class _Distillation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        teacher_GBC: Tensor,
        student_VBC: Tensor,
        settings: Settings,
        group: ProcessGroup | None,
        overwrite_logits: bool,
        path: DistillationPath,
    ) -> tuple[Tensor, Tensor]:
        ctx.num_images = teacher_GBC.shape[1] * world_size(group)
        loss, terms, kept = path.forward(teacher_GBC, student_VBC, settings, ctx.num_images, group)
        ctx.save_for_backward(teacher_GBC, student_VBC, *kept)
        ctx.settings, ctx.group, ctx.overwrite_logits, ctx.path = settings, group, overwrite_logits, path
        ctx.mark_non_differentiable(terms)
        return loss, terms

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        teacher_GBC, student_VBC, *kept = ctx.saved_tensors
        # Every rank's copy of the global loss is differentiated, and the copies' gradients add up.
        upstream = gradients[0].to(kept[0].dtype)
        if ctx.group is not None:
            upstream = all_reduce_sum_(upstream.clone(), ctx.group)
        d_logits = ctx.path.gradients(
            teacher_GBC, student_VBC, tuple(kept), upstream, ctx.settings, ctx.num_images, ctx.overwrite_logits
        )
        return *d_logits, *(None,) * 4


def distillation_by(
    path: DistillationPath,
    teacher_GBC: Tensor,
    student_VBC: Tensor,
    settings: Settings,
    *,
    group: ProcessGroup | None,
    overwrite_logits: bool,
) -> tuple[Tensor, DistillationTerms]:
    """As ``issl_kernels.distillation``."""
    loss, terms = _Distillation.apply(  # type: ignore[no-untyped-call]
        teacher_GBC, student_VBC, settings, group, overwrite_logits, path
    )
    return loss, DistillationTerms(*terms.unbind())
