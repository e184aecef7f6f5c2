"""The soft cross-entropy between views, from the features before the last linear layer."""

from torch import Tensor

from issl_kernels.checks import check_finite, check_floating, check_linear, check_positive, check_same
from issl_kernels.linear_soft_cross_entropy.blocks import linear_soft_cross_entropy_in_blocks, loss_sum_chunked_
from issl_kernels.linear_soft_cross_entropy.reference import linear_soft_cross_entropy_reference
from issl_kernels.linear_soft_cross_entropy.teacher import LinearTeacher
from issl_kernels.path import resolved_path
from issl_kernels.soft_cross_entropy.settings import Settings

__all__ = ["LinearTeacher", "linear_soft_cross_entropy"]


def linear_soft_cross_entropy(
    features_VBH: Tensor,
    weight_CH: Tensor,
    bias_C: Tensor | None,
    targets: Tensor | LinearTeacher,
    *,
    temperature: float,
    skip_same_view: bool = True,
) -> Tensor:
    """``soft_cross_entropy`` of the logits features · weightᵀ + bias, which are never held all at once.

    ``features_VBH`` [V, B, H], ``weight_CH`` [C, H], ``bias_C`` [C] or None; ``targets`` probabilities [G, B, C], or a
    ``LinearTeacher``, which makes them a block of images at a time. The products are made in autocast's dtype where
    that is on, else in the features'; weights and biases of another dtype are cast to it. Gradients flow into
    features, weight and bias, none into the targets. Everything else as for ``soft_cross_entropy``.

    The forward pass makes the gradients and keeps them for the backward pass. There can be only one backward pass.
    Memory beyond the inputs: those gradients (the weight's in fp32), weights cast to the products' dtype, the product
    that is being added to the weight's gradient where the two differ in dtype, and a block of images' logits and
    targets, within ``linear_blocks.SHARE_OF_INPUTS`` of features and weight or ``linear_blocks.LEAST_BYTES`` (one
    image, if that is more).

    Raises ValueError as ``soft_cross_entropy`` does, and for weights or biases that do not fit.
    """
    check_floating("features_VBH", features_VBH, 3)
    check_linear("", features_VBH, weight_CH, bias_C)
    check_positive("temperature", temperature)
    check_finite("features_VBH", features_VBH)
    if isinstance(targets, LinearTeacher):
        _check_teacher(targets, features_VBH, weight_CH)
        num_targets = len(targets.features_GBH)
    else:
        check_floating("targets", targets, 3)
        check_same("targets", targets, "features_VBH", features_VBH, (1,))
        if targets.shape[2] != weight_CH.shape[0]:
            raise ValueError(
                f"targets and weight_CH do not fit together: their shapes are {tuple(targets.shape)} and "
                f"{tuple(weight_CH.shape)}, which must agree in the number of classes"
            )
        if targets.requires_grad:
            raise ValueError("targets requires a gradient, but targets are constants here: detach them")
        num_targets = len(targets)
    if skip_same_view and len(features_VBH) == 1 and num_targets == 1:
        raise ValueError(
            f"features_VBH and targets leave no pair of different views: features_VBH has the shape "
            f"{tuple(features_VBH.shape)}, and the targets are of one view"
        )
    path = resolved_path("linear_soft_cross_entropy", features_VBH.device, True)
    if path == "reference":
        return linear_soft_cross_entropy_reference(
            features_VBH, weight_CH, bias_C, targets, temperature=temperature, skip_same_view=skip_same_view
        )
    if path == "chunked":
        loss_sum_ = loss_sum_chunked_
    else:
        from issl_kernels.linear_soft_cross_entropy.triton_ops import loss_sum_triton_ as loss_sum_
    settings = Settings(temperature, skip_same_view)
    return linear_soft_cross_entropy_in_blocks(features_VBH, weight_CH, bias_C, targets, settings, loss_sum_)


def _check_teacher(teacher: LinearTeacher, features_VBH: Tensor, weight_CH: Tensor) -> None:
    check_floating("targets.features_GBH", teacher.features_GBH, 3)
    check_same("targets.features_GBH", teacher.features_GBH, "features_VBH", features_VBH, (1,))
    check_linear("targets", teacher.features_GBH, teacher.weight_CH, teacher.bias_C)
    check_same("targets.weight_CH", teacher.weight_CH, "weight_CH", weight_CH, (0,))
    check_positive("targets.temperature", teacher.temperature)
    if teacher.centre_C is not None:
        check_floating("targets.centre_C", teacher.centre_C, 1)
        check_same("targets.centre_C", teacher.centre_C, "weight_CH", weight_CH, (0,))
