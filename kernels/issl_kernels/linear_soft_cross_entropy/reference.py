"""The definition in plain torch: all logits at once, then the soft cross-entropy. Use it in fp64."""

import torch
from torch import Tensor

from issl_kernels.linear_blocks import all_logits
from issl_kernels.linear_soft_cross_entropy.teacher import LinearTeacher
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.soft_cross_entropy.reference import soft_cross_entropy_reference


def linear_soft_cross_entropy_reference(
    features_VBH: Tensor,
    weight_CH: Tensor,
    bias_C: Tensor | None,
    targets: Tensor | LinearTeacher,
    *,
    temperature: float,
    skip_same_view: bool = True,
) -> Tensor:
    """As ``issl_kernels.linear_soft_cross_entropy``; memory (G + V) · B · C."""

    if isinstance(targets, LinearTeacher):
        with torch.no_grad():
            logits_GBC = all_logits(targets.features_GBH, targets.weight_CH, targets.bias_C)
            like = torch.empty(0, dtype=arithmetic_dtype(logits_GBC), device=logits_GBC.device)
            targets = targets.targets(logits_GBC, like)
    return soft_cross_entropy_reference(
        all_logits(features_VBH, weight_CH, bias_C), targets, temperature=temperature, skip_same_view=skip_same_view
    )
