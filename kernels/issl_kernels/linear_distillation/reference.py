"""The definition in plain torch: all logits at once, then the DISSL loss. Use it in fp64."""

from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.distillation.terms import DistillationTerms
from issl_kernels.linear_blocks import all_logits


def linear_distillation_reference(
    teacher_features_GBH: Tensor,
    teacher_weight_CH: Tensor,
    teacher_bias_C: Tensor | None,
    student_features_VBH: Tensor,
    student_weight_CH: Tensor,
    student_bias_C: Tensor | None,
    *,
    teacher_temperature: float,
    student_temperature: float,
    entropy_weight: float,
    invariance_weight: float,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, DistillationTerms]:
    """As ``issl_kernels.linear_distillation``; memory (G + V) · B · C."""

    return distillation_reference(
        all_logits(teacher_features_GBH, teacher_weight_CH, teacher_bias_C),
        all_logits(student_features_VBH, student_weight_CH, student_bias_C),
        teacher_temperature=teacher_temperature,
        student_temperature=student_temperature,
        entropy_weight=entropy_weight,
        invariance_weight=invariance_weight,
        group=group,
    )
