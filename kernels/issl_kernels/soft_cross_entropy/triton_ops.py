"""The soft cross-entropy on Triton kernels: launchers as operations of torch.

Letters: V student views, G target views, B images, C classes.
"""

from torch import Tensor

from issl_kernels.operation import gradient_operations, operation
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.soft_cross_entropy import triton_kernels as kernels
from issl_kernels.soft_cross_entropy.autograd import SoftCrossEntropyPath
from issl_kernels.soft_cross_entropy.settings import Settings
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
"""Classes per program, which reads all views of an image."""


def _alone(V: int, G: int, skip_same_view: bool) -> int:
    """Student views that lack a target: their own view's."""
    return min(V, G) if skip_same_view else 0


def _block(C: int) -> int:
    return min(BLOCK, next_power_of_2(C))


def _statistics_results(
    student_VBC: Tensor, targets_GBC: Tensor, skip_same_view: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = arithmetic_dtype(student_VBC, targets_GBC)
    V, B, _ = student_VBC.shape
    rows = _alone(V, targets_GBC.shape[0], skip_same_view) + 1
    loss, maxima, exponentials, masses = (
        student_VBC.new_empty(shape, dtype=dtype) for shape in ((), (V, B), (V, B), (rows, B))
    )
    return loss, maxima, exponentials, masses


@operation(results=_statistics_results)
def soft_cross_entropy_statistics(
    student_VBC: Tensor, targets_GBC: Tensor, temperature: float, skip_same_view: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(loss, maxima [V, B], exponentials [V, B], masses of the sums of targets [views left out one by one + 1, B])."""
    student_VBC, targets_GBC = with_contiguous_rows(student_VBC), with_contiguous_rows(targets_GBC)
    (V, B, C), G = student_VBC.shape, len(targets_GBC)
    alone, num_blocks = _alone(V, G, skip_same_view), ceil_div(C, _block(C))
    _, maxima, exponentials, masses = _statistics_results(student_VBC, targets_GBC, skip_same_view)
    partials, losses = maxima.new_empty(3 * V + alone + 1, B, num_blocks), maxima.new_empty(B)
    with on_device(student_VBC):
        kernels.statistics[(B * num_blocks,)](
            student_VBC, targets_GBC, partials, B, *student_VBC.stride()[:2], *targets_GBC.stride()[:2],
            1 / temperature, V=V, G=G, C=C, ALONE=alone, NUM_BLOCKS=num_blocks, BLOCK=_block(C),
            ALIGN=alignment(student_VBC, targets_GBC), ACC=TRITON_DTYPES[maxima.dtype], num_warps=4,
        )  # fmt: skip
        kernels.join_blocks[(B,)](
            partials, maxima, exponentials, masses, losses, B, 1 / temperature, V=V, ALONE=alone,
            NUM_BLOCKS=num_blocks, PADDED=next_power_of_2(num_blocks), num_warps=1,
        )  # fmt: skip
    return losses.sum() / (num_pairs(V, G, skip_same_view) * B), maxima, exponentials, masses


def _launch_gradients(
    d_student_VBC: Tensor, student_VBC: Tensor, targets_GBC: Tensor, maxima: Tensor, exponentials: Tensor,
    masses: Tensor, upstream: Tensor, temperature: float, skip_same_view: bool,
) -> None:  # fmt: skip
    """Writes the gradient to the student's logits [V, B, C], which may be the logits themselves."""
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


soft_cross_entropy_gradients, soft_cross_entropy_gradients_ = gradient_operations(
    "soft_cross_entropy_gradients", _launch_gradients, of=("student_VBC",)
)


def _statistics(student_VBC: Tensor, targets_GBC: Tensor, settings: Settings) -> tuple[Tensor, ...]:
    return soft_cross_entropy_statistics(student_VBC, targets_GBC, *settings)


def _gradients(
    student_VBC: Tensor, targets_GBC: Tensor, rows: tuple[Tensor, ...], upstream: Tensor, settings: Settings,
    overwrite_logits: bool,
) -> Tensor:  # fmt: skip
    maxima, exponentials, masses = rows
    arguments = (student_VBC, targets_GBC, maxima, exponentials, masses, upstream, *settings)
    if overwrite_logits:
        soft_cross_entropy_gradients_(*arguments)
        return student_VBC
    return soft_cross_entropy_gradients(*arguments)


TRITON = SoftCrossEntropyPath(_statistics, _gradients)
