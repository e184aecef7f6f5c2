"""What the DISSL loss from features does to a block's logits, on the Triton kernels of the DISSL loss."""

import torch
from torch import Tensor

from issl_kernels.distillation.chunked import Sums
from issl_kernels.distillation.settings import Settings
from issl_kernels.distillation.triton_ops import distillation_gradients_, distillation_statistics
from issl_kernels.linear_distillation.blocks import LogitsPath


def _add_mass(teacher_GBC: Tensor, settings: Settings, sums: Sums) -> None:
    G, B, C = teacher_GBC.shape
    *_, flat = distillation_statistics(
        teacher_GBC,
        teacher_GBC.new_empty(0, B, C),
        settings.teacher_temperature,
        settings.student_temperature,
        0.0,
        True,
    )
    sums.mass_GC += flat[: G * C].view(G, C)
    torch.maximum(sums.used_C, flat[G * C : G * C + C], out=sums.used_C)


def _add_cross_terms_(
    teacher_GBC: Tensor, student_VBC: Tensor, settings: Settings, sums: Sums, marginal_GC: Tensor, with_gradients: bool
) -> None:
    temperatures = (settings.teacher_temperature, settings.student_temperature)
    pair_weight = settings.teacher_pair_weight(len(student_VBC), len(teacher_GBC))
    maxima, exponentials, dots, flat = distillation_statistics(
        teacher_GBC, student_VBC, *temperatures, pair_weight, False
    )
    sums.cross += flat[-3:]
    if with_gradients:
        log_marginal_GC = marginal_GC.clamp(min=torch.finfo(marginal_GC.dtype).tiny).log()
        one = torch.ones_like(log_marginal_GC[0, 0])
        distillation_gradients_(
            teacher_GBC, student_VBC, maxima, exponentials, dots, log_marginal_GC, one, 1, *temperatures,
            settings.entropy_weight, pair_weight,
        )  # fmt: skip


TRITON = LogitsPath(_add_mass, _add_cross_terms_)
