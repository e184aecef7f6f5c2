"""The DISSL loss from the features before the heads' last linear layers."""

from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.checks import check_finite, check_floating, check_linear, check_same
from issl_kernels.distillation import check_settings, check_views
from issl_kernels.distillation.settings import Settings
from issl_kernels.distillation.terms import DistillationTerms
from issl_kernels.linear_distillation.blocks import CHUNKED, linear_distillation_in_blocks
from issl_kernels.linear_distillation.reference import linear_distillation_reference
from issl_kernels.path import resolved_path


def linear_distillation(
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
    """``distillation`` of the logits features · weightᵀ + bias, which are never held all at once.

    ``teacher_features_GBH`` [G, B, H], ``student_features_VBH`` [V, B, H'], weights [C, H] and [C, H'], biases [C] or
    None. The products are made in autocast's dtype where that is on, else in the features'; weights and biases of
    another dtype are cast to it. Gradients flow into all six. Everything else as for ``distillation``.

    The forward pass makes the gradients and keeps them for the backward pass. There can be only one backward pass.
    Memory beyond the inputs: those gradients (of the weights in fp32), weights cast to the products' dtype, the
    product that is being added to a weight's gradient where the two differ in dtype, and a block of images' logits,
    within ``linear_blocks.SHARE_OF_INPUTS`` of features and weights or ``linear_blocks.LEAST_BYTES`` (one image, if
    that is more).

    Raises ValueError as ``distillation`` does, and for weights or biases that do not fit.
    """
    check_floating("teacher_features_GBH", teacher_features_GBH, 3)
    check_floating("student_features_VBH", student_features_VBH, 3)
    check_same("teacher_features_GBH", teacher_features_GBH, "student_features_VBH", student_features_VBH, (1,))
    check_linear("teacher", teacher_features_GBH, teacher_weight_CH, teacher_bias_C)
    check_linear("student", student_features_VBH, student_weight_CH, student_bias_C)
    check_same("teacher_weight_CH", teacher_weight_CH, "student_weight_CH", student_weight_CH, (0,))
    settings = Settings(teacher_temperature, student_temperature, entropy_weight, invariance_weight)
    check_settings(settings)
    check_views("teacher_features_GBH", teacher_features_GBH, "student_features_VBH", student_features_VBH)
    check_finite("teacher_features_GBH", teacher_features_GBH)
    check_finite("student_features_VBH", student_features_VBH)
    teacher = (teacher_features_GBH, teacher_weight_CH, teacher_bias_C)
    student = (student_features_VBH, student_weight_CH, student_bias_C)
    path = resolved_path("linear_distillation", student_features_VBH.device, True)
    if path == "reference":
        return linear_distillation_reference(*teacher, *student, **settings._asdict(), group=group)
    if path == "chunked":
        return linear_distillation_in_blocks(teacher, student, settings, CHUNKED, group)
    from issl_kernels.linear_distillation.triton_ops import TRITON

    return linear_distillation_in_blocks(teacher, student, settings, TRITON, group)
