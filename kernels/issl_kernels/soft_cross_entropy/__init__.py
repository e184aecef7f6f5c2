"""Cross-entropy with soft targets between the views of an image: SwAV and DINO."""

import torch
from torch import Tensor

from issl_kernels.checks import check_finite, check_floating, check_may_be_overwritten, check_positive, check_same
from issl_kernels.path import resolved_path
from issl_kernels.soft_cross_entropy.autograd import soft_cross_entropy_by
from issl_kernels.soft_cross_entropy.chunked import CHUNKED
from issl_kernels.soft_cross_entropy.reference import soft_cross_entropy_reference
from issl_kernels.soft_cross_entropy.settings import Settings


def soft_cross_entropy(
    student_VBC: Tensor,
    targets_GBC: Tensor,
    *,
    temperature: float,
    skip_same_view: bool = True,
    overwrite_logits: bool = False,
) -> Tensor:
    """Mean over images and pairs (target view i, student view j) of CE(targets_i, softmax(student_j / temperature)).

    ``student_VBC`` logits [V, B, C]; ``targets_GBC`` probabilities [G, B, C] (rows sum to one), constants: no gradient
    flows into them. ``skip_same_view`` leaves out the pairs i = j. Scalar in nats; bf16, fp16, fp32 or fp64 in,
    arithmetic in fp32 (fp64 for fp64). For a fixed image the pairs of one student view need one pass:
    Σ_i CE(t_i, s_j) = CE(Σ_i t_i, s_j). It is a mean over this rank's images, so averaging gradients over ranks needs
    no group.

    Saved for backward: the inputs, maximum and sum of each student row's exponentials, on the Triton path also the
    targets' masses. Beyond that, the chunked path holds all views of a block of images, within
    ``view_pairs.BLOCK_ELEMENTS``; the Triton path 3 V + G + 1 floats for every image and ``triton_ops.BLOCK`` classes.
    The gradient is a new tensor, unless ``overwrite_logits``: then it takes the memory of ``student_VBC``, which must
    not be used after the backward pass, and there can be only one backward pass.

    Raises ValueError for shapes that do not fit, targets that require a gradient, temperature <= 0, no pair, or logits
    that may not be overwritten; for infinities and NaN where ``ISSL_KERNELS_CHECK`` is 1. ``ISSL_KERNELS`` chooses the
    path (see ``issl_kernels.path``).
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
    check_finite("student_VBC", student_VBC)
    check_finite("targets_GBC", targets_GBC)
    path = resolved_path("soft_cross_entropy", student_VBC.device, True)
    if overwrite_logits and path != "reference":
        check_may_be_overwritten(student_VBC=student_VBC)
    with torch.autocast(student_VBC.device.type, enabled=False):
        if path == "reference":
            return soft_cross_entropy_reference(
                student_VBC, targets_GBC, temperature=temperature, skip_same_view=skip_same_view
            )
        if path == "chunked":
            way = CHUNKED
        else:
            from issl_kernels.soft_cross_entropy.triton_ops import TRITON as way
        settings = Settings(temperature, skip_same_view)
        return soft_cross_entropy_by(way, student_VBC, targets_GBC, settings, overwrite_logits)
