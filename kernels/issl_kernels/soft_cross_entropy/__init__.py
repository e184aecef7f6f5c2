"""Cross-entropy with soft targets between the views of an image: SwAV and DINO."""

import torch
from torch import Tensor

from issl_kernels.checks import check_floating, check_positive, check_same
from issl_kernels.soft_cross_entropy.chunked import soft_cross_entropy_chunked


def soft_cross_entropy(
    student_VBC: Tensor, targets_GBC: Tensor, *, temperature: float, skip_same_view: bool = True
) -> Tensor:
    """Mean over images and pairs (target view i, student view j) of CE(targets_i, softmax(student_j / temperature)).

    ``student_VBC`` logits [V, B, C]; ``targets_GBC`` probabilities [G, B, C] (rows sum to one), constants: no gradient
    flows into them. ``skip_same_view`` leaves out the pairs i = j. Scalar in nats; bf16, fp16, fp32 or fp64 in,
    arithmetic in fp32 (fp64 for fp64). For a fixed image the pairs of one student view need one pass:
    Σ_i CE(t_i, s_j) = CE(Σ_i t_i, s_j). Saved for backward: the inputs, maximum and sum of each student
    row's exponentials. It is a mean over
    this rank's images, so averaging gradients over ranks needs no group.

    Raises ValueError for shapes that do not fit, targets that require a gradient, temperature <= 0, or no pair.
    """
    check_floating("student_VBC", student_VBC, 3)
    check_floating("targets_GBC", targets_GBC, 3)
    check_same("student_VBC", student_VBC, "targets_GBC", targets_GBC, (1, 2))
    check_positive("temperature", temperature)
    if targets_GBC.requires_grad:
        raise ValueError("targets_GBC requires a gradient, but targets are constants here: detach them")
    if skip_same_view and student_VBC.shape[0] == 1 and targets_GBC.shape[0] == 1:
        raise ValueError(
            f"student_VBC and targets_GBC leave no pair of different views: their shapes are "
            f"{tuple(student_VBC.shape)} and {tuple(targets_GBC.shape)}"
        )
    with torch.autocast(student_VBC.device.type, enabled=False):
        return soft_cross_entropy_chunked(
            student_VBC, targets_GBC, temperature=temperature, skip_same_view=skip_same_view
        )
