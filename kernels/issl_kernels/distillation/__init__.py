"""The DISSL loss: distillation, maximality, invariance and determinism."""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.checks import check_finite, check_floating, check_may_be_overwritten, check_positive, check_same
from issl_kernels.distillation.autograd import distillation_by
from issl_kernels.distillation.chunked import CHUNKED
from issl_kernels.distillation.reference import distillation_reference
from issl_kernels.distillation.settings import Settings
from issl_kernels.distillation.terms import DistillationTerms
from issl_kernels.path import resolved_path

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
    overwrite_logits: bool = False,
) -> tuple[Tensor, DistillationTerms]:
    """Loss of DISSL (Dubois et al. 2022) from logits; scalar in nats, and its terms.

    With t = softmax(teacher / teacher_temperature), s = softmax(student / student_temperature):

        mean_{i != j} E_x CE(t_i, s_j)  −  entropy_weight · mean_i H(E_x t_i)
            +  invariance_weight · mean_{i != i'} E_x CE(t_i, t_i')

    ``teacher_GBC`` [G, B, C], ``student_VBC`` [V, B, C], V >= G: view i of the teacher and view i of the student are
    the same crop. Gradients flow into both, through all three terms. E_x is over the images of all ranks. bf16, fp16,
    fp32 or fp64 logits, arithmetic in fp32 (fp64 for fp64).

    Saved for backward: the logits, maximum and sum of each row's exponentials, and the marginals [G, C]. Beyond that,
    the chunked path holds all views of a block of images, within ``view_pairs.BLOCK_ELEMENTS`` (one image, where that
    is more); the Triton path holds partial sums of the marginals, G·C floats for every
    ``triton_ops.IMAGES_PER_CHUNK`` images, and 5 G + 2 V floats for every image and ``triton_ops.STATISTICS_BLOCK``
    classes. The gradients are new tensors, unless ``overwrite_logits``: then they take the memory of the logits, which
    must not be used after the backward pass, and there can be only one backward pass.

    Raises ValueError for shapes that do not fit, temperatures <= 0, no pair of different views, or logits that may not
    be overwritten; for infinities and NaN where ``ISSL_KERNELS_CHECK`` is 1. ``ISSL_KERNELS`` chooses the path (see
    ``issl_kernels.path``).
    """
    check_floating("teacher_GBC", teacher_GBC, 3)
    check_floating("student_VBC", student_VBC, 3)
    check_same("teacher_GBC", teacher_GBC, "student_VBC", student_VBC, (1, 2))
    settings = Settings(teacher_temperature, student_temperature, entropy_weight, invariance_weight)
    check_settings(settings)
    check_views("teacher_GBC", teacher_GBC, "student_VBC", student_VBC)
    check_finite("teacher_GBC", teacher_GBC)
    check_finite("student_VBC", student_VBC)
    path = resolved_path("distillation", student_VBC.device, True)
    if overwrite_logits and path != "reference":
        check_may_be_overwritten(teacher_GBC=teacher_GBC, student_VBC=student_VBC)
    with torch.autocast(student_VBC.device.type, enabled=False):
        if path == "reference":
            return distillation_reference(teacher_GBC, student_VBC, **settings._asdict(), group=group)
        if path == "chunked":
            way = CHUNKED
        else:
            from issl_kernels.distillation.triton_ops import TRITON as way
        return distillation_by(way, teacher_GBC, student_VBC, settings, group=group, overwrite_logits=overwrite_logits)


def check_settings(settings: Settings) -> None:
    """Temperatures above zero, finite weights. Raises ValueError."""
    check_positive("teacher_temperature", settings.teacher_temperature)
    check_positive("student_temperature", settings.student_temperature)


def check_views(teacher_name: str, teacher: Tensor, student_name: str, student: Tensor) -> None:
    """At least one pair of different views, none of the teacher's without the student's. Raises ValueError."""
    shapes = f"their shapes are {tuple(teacher.shape)} and {tuple(student.shape)}"
    if len(teacher) > len(student):
        raise ValueError(f"{teacher_name} has more views than {student_name}: {shapes}")
    if len(student) == 1:
        raise ValueError(f"{teacher_name} and {student_name} leave no pair of different views: {shapes}")
