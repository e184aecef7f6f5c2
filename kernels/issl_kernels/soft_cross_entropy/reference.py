"""The definition in plain torch: every pair of views on its own. Use it in fp64."""

import torch
from torch import Tensor

from issl_kernels.precision import widened


def soft_cross_entropy_reference(
    student_VBC: Tensor, targets_GBC: Tensor, *, temperature: float, skip_same_view: bool = True
) -> Tensor:
    """As ``issl_kernels.soft_cross_entropy``."""
    student_VBC, targets_GBC = widened(student_VBC, targets_GBC)
    log_student_VBC = (student_VBC / temperature).log_softmax(-1)
    pairs = [
        -(target_BC * log_student_BC).sum(-1).mean()
        for i, target_BC in enumerate(targets_GBC)
        for j, log_student_BC in enumerate(log_student_VBC)
        if not (skip_same_view and i == j)
    ]
    return torch.stack(pairs).mean()
