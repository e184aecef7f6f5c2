"""What the soft cross-entropy from features does to a block's logits, on the Triton kernels of the one from logits."""

import torch
from torch import Tensor

from issl_kernels.soft_cross_entropy.triton_ops import soft_cross_entropy_gradients_, soft_cross_entropy_statistics
from issl_kernels.view_pairs import num_pairs


def loss_sum_triton_(
    student_VBC: Tensor, targets_GBC: Tensor, temperature: float, skip_same_view: bool, with_gradient: bool
) -> Tensor:
    """The Triton path's LossSum."""
    mean, maxima, exponentials, masses = soft_cross_entropy_statistics(
        student_VBC, targets_GBC, temperature, skip_same_view
    )
    V, B, _ = student_VBC.shape
    count = num_pairs(V, len(targets_GBC), skip_same_view) * B
    if with_gradient:
        upstream = torch.full_like(mean, count)
        soft_cross_entropy_gradients_(
            student_VBC, targets_GBC, maxima, exponentials, masses, upstream, temperature, skip_same_view
        )
    return mean * count
