"""The DISSL loss: distillation, maximality, invariance and determinism."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.checks import check_floating, check_positive, check_same
from issl_kernels.distillation.chunked import distillation_chunked
from issl_kernels.distillation.terms import DistillationTerms

__all__ = ["DistillationTerms", "distillation"]


def distillation(
    teacher_GBC: Tensor,
    student_VBC: Tensor,
    *,
    teacher_temperature: float,
    student_temperature: float,
    entropy_weight: float,
    invariance_weight: float,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, DistillationTerms]:
    """Loss of DISSL (Dubois et al. 2022) from logits; scalar in nats, and its terms.

    With t = softmax(teacher / teacher_temperature), s = softmax(student / student_temperature):

        mean_{i != j} E_x CE(t_i, s_j)  −  entropy_weight · mean_i H(E_x t_i)
            +  invariance_weight · mean_{i != i'} E_x CE(t_i, t_i')

    ``teacher_GBC`` [G, B, C], ``student_VBC`` [V, B, C], V >= G: view i of the teacher and view i of the student are
    the same crop. Gradients flow into both, through all three terms. E_x is over the images of all ranks. bf16, fp16,
    fp32 or fp64 logits, arithmetic in fp32 (fp64 for fp64). Saved for backward: the logits, maximum and sum of
    each row's exponentials, and the marginals [G, C]; all views of a block of images stay within
    ``view_pairs.BLOCK_ELEMENTS`` (one image, where that is more).

    Raises ValueError for shapes that do not fit, temperatures <= 0, or no pair of different views.
    """
    check_floating("teacher_GBC", teacher_GBC, 3)
    check_floating("student_VBC", student_VBC, 3)
    check_same("teacher_GBC", teacher_GBC, "student_VBC", student_VBC, (1, 2))
    check_positive("teacher_temperature", teacher_temperature)
    check_positive("student_temperature", student_temperature)
    shapes = f"their shapes are {tuple(teacher_GBC.shape)} and {tuple(student_VBC.shape)}"
    if len(teacher_GBC) > len(student_VBC):
        raise ValueError(f"teacher_GBC has more views than student_VBC: {shapes}")
    if len(student_VBC) == 1:
        raise ValueError(f"teacher_GBC and student_VBC leave no pair of different views: {shapes}")
    with torch.autocast(student_VBC.device.type, enabled=False):
        return distillation_chunked(
            teacher_GBC,
            student_VBC,
            teacher_temperature=teacher_temperature,
            student_temperature=student_temperature,
            entropy_weight=entropy_weight,
            invariance_weight=invariance_weight,
            group=group,
        )
