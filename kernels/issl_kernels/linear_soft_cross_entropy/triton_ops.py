"""What the soft cross-entropy from features does to a block's logits, on the Triton kernels of the one from logits."""

import torch
from torch import Tensor

from issl_kernels.soft_cross_entropy.settings import Settings
from issl_kernels.soft_cross_entropy.triton_ops import soft_cross_entropy_gradients_, soft_cross_entropy_statistics


def loss_sum_triton_(student_VBC: Tensor, targets_GBC: Tensor, settings: Settings, with_gradient: bool) -> Tensor:
    """The Triton path's LossSum."""
    mean, *rows = soft_cross_entropy_statistics(student_VBC, targets_GBC, *settings)
    count = settings.num_terms(student_VBC, targets_GBC)
    if with_gradient:
        maxima, exponentials, masses = rows
        upstream = torch.full_like(mean, count)
        soft_cross_entropy_gradients_(student_VBC, targets_GBC, maxima, exponentials, masses, upstream, *settings)
    return mean * count
