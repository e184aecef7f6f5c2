"""The sigmoid contrast on Triton kernels: its operations of torch. Launchers and tile sizes are InfoNCE's.

Letters: V views of the anchors, G of the targets, B images of the anchors, N images of the targets, D width.
"""

from torch import Tensor

from issl_kernels.info_nce import triton_ops as info_nce_ops
from issl_kernels.info_nce.contrast import Rows
from issl_kernels.operation import operation
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.sigmoid_contrastive import triton_kernels as kernels
from issl_kernels.sigmoid_contrastive.contrast import SigmoidContrast


def _losses_results(anchors_VBD: Tensor, targets_GND: Tensor) -> Tensor:
    V, B, _ = anchors_VBD.shape
    return anchors_VBD.new_empty(2, V * B, dtype=arithmetic_dtype(anchors_VBD, targets_GND))


@operation(results=_losses_results)
def sigmoid_contrastive_losses(
    anchors_VBD: Tensor, targets_GND: Tensor, labels_B: Tensor | None, target_labels_N: Tensor | None, scale: Tensor,
    bias: Tensor, first_image: int, first_target: int, keep_self: bool,
) -> Tensor:  # fmt: skip
    """Of each anchor: Σ over targets of its losses, and of their slopes [2, V · B]."""
    anchors, targets = Rows(anchors_VBD, labels_B, first_image), Rows(targets_GND, target_labels_N, first_target)
    return info_nce_ops.launch_forward(kernels.losses, 2, anchors, targets, keep_self, scale, bias).sum(1)


@operation(results=info_nce_ops.gradients_results)
def sigmoid_contrastive_gradients(
    anchors_VBD: Tensor, targets_GND: Tensor, labels_B: Tensor | None, target_labels_N: Tensor | None, scale: Tensor,
    bias: Tensor, first_image: int, first_target: int, keep_self: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(Σ_targets d_l · b [V, B, D], Σ_anchors d_l · a [G, N, D]); see SigmoidContrast."""
    anchors, targets = Rows(anchors_VBD, labels_B, first_image), Rows(targets_GND, target_labels_N, first_target)
    return info_nce_ops.launch_gradients(anchors, targets, keep_self, scale, bias=bias)


def _losses(anchors: Rows, targets: Rows, scale: Tensor, bias: Tensor, keep_self: bool) -> Tensor:
    return sigmoid_contrastive_losses(
        *info_nce_ops.of_one_dtype(anchors, targets), anchors.labels, targets.labels, scale, bias,
        anchors.first_image, targets.first_image, keep_self,
    )  # fmt: skip


def _gradients(anchors: Rows, targets: Rows, scale: Tensor, bias: Tensor, keep_self: bool) -> tuple[Tensor, Tensor]:
    return sigmoid_contrastive_gradients(
        *info_nce_ops.of_one_dtype(anchors, targets), anchors.labels, targets.labels, scale, bias,
        anchors.first_image, targets.first_image, keep_self,
    )  # fmt: skip


TRITON = SigmoidContrast(_losses, _gradients)
