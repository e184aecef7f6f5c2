"""The sigmoid contrast on Triton kernels: launcher, custom operations. Tile sizes are InfoNCE's.

Letters: V views of the anchors, G of the targets, B images of the anchors, N images of the targets, D width.
"""

import torch
from torch import Tensor

from issl_kernels.info_nce import triton_ops as info_nce_ops
from issl_kernels.info_nce.contrast import Rows
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.sigmoid_contrastive import triton_kernels as kernels
from issl_kernels.sigmoid_contrastive.contrast import SigmoidContrast
from issl_kernels.triton_launch import TRITON_DTYPES, ceil_div, on_device


@torch.library.custom_op("issl_kernels::sigmoid_contrastive_losses", mutates_args=())
def sigmoid_contrastive_losses(
    anchors_VBD: Tensor, targets_GND: Tensor, labels_B: Tensor | None, target_labels_N: Tensor | None, scale: Tensor,
    bias: Tensor, first_image: int, first_target: int, keep_self: bool,
) -> Tensor:  # fmt: skip
    """Of each anchor: Σ over targets of its losses, and of their slopes [2, V · B]."""
    anchors_VBD, targets_GND = anchors_VBD.contiguous(), targets_GND.contiguous()
    (V, B, D), (G, N, _) = anchors_VBD.shape, targets_GND.shape
    dtype = arithmetic_dtype(anchors_VBD, targets_GND)
    tiles = info_nce_ops.fitted(info_nce_ops.statistics_tiles(anchors_VBD.dtype, D), B, N, D)
    programs = V * ceil_div(B, tiles.anchors)
    split = info_nce_ops.Split.of(programs, G * ceil_div(N, tiles.targets))
    partials = anchors_VBD.new_empty(2, split.splits, V * B, dtype=dtype)
    with on_device(anchors_VBD):
        kernels.losses[(programs, split.splits)](
            anchors_VBD, targets_GND, *info_nce_ops.label_pointers(labels_B, target_labels_N, anchors_VBD), scale,
            bias, partials, first_image, first_target, B, N, split.tiles, V=V, G=G, D=D, KEEP_SELF=keep_self,
            LABELS=labels_B is not None, STEP=tiles.step, ANCHORS=tiles.anchors, TARGETS=tiles.targets,
            PRECISION=info_nce_ops.precision(anchors_VBD.dtype), ACC=TRITON_DTYPES[dtype], num_warps=tiles.warps,
            num_stages=tiles.stages,
        )  # fmt: skip
    return partials.sum(1)


@sigmoid_contrastive_losses.register_fake
def _(
    anchors_VBD: Tensor, targets_GND: Tensor, labels_B: Tensor | None, target_labels_N: Tensor | None, scale: Tensor,
    bias: Tensor, first_image: int, first_target: int, keep_self: bool,
) -> Tensor:  # fmt: skip
    V, B, _ = anchors_VBD.shape
    return anchors_VBD.new_empty(2, V * B, dtype=arithmetic_dtype(anchors_VBD, targets_GND))


@torch.library.custom_op("issl_kernels::sigmoid_contrastive_gradients", mutates_args=())
def sigmoid_contrastive_gradients(
    anchors_VBD: Tensor, targets_GND: Tensor, labels_B: Tensor | None, target_labels_N: Tensor | None, scale: Tensor,
    bias: Tensor, first_image: int, first_target: int, keep_self: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(Σ_targets d_l · b [V, B, D], Σ_anchors d_l · a [G, N, D]); see SigmoidContrast."""
    return info_nce_ops.launch_gradients(
        anchors_VBD, targets_GND, labels_B, target_labels_N, scale, first_image, first_target, keep_self, None, bias
    )


@sigmoid_contrastive_gradients.register_fake
def _(
    anchors_VBD: Tensor, targets_GND: Tensor, labels_B: Tensor | None, target_labels_N: Tensor | None, scale: Tensor,
    bias: Tensor, first_image: int, first_target: int, keep_self: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    dtype = arithmetic_dtype(anchors_VBD, targets_GND)
    return anchors_VBD.new_empty(anchors_VBD.shape, dtype=dtype), targets_GND.new_empty(targets_GND.shape, dtype=dtype)


def _losses(anchors: Rows, targets: Rows, scale: Tensor, bias: Tensor, keep_self: bool) -> Tensor:
    found: Tensor = sigmoid_contrastive_losses(
        *info_nce_ops.of_one_dtype(anchors, targets), anchors.labels, targets.labels, scale, bias,
        anchors.first_image, targets.first_image, keep_self,
    )  # fmt: skip
    return found


def _gradients(anchors: Rows, targets: Rows, scale: Tensor, bias: Tensor, keep_self: bool) -> tuple[Tensor, Tensor]:
    d_anchors, d_targets = sigmoid_contrastive_gradients(
        *info_nce_ops.of_one_dtype(anchors, targets), anchors.labels, targets.labels, scale, bias,
        anchors.first_image, targets.first_image, keep_self,
    )  # fmt: skip
    return d_anchors, d_targets


TRITON = SigmoidContrast(_losses, _gradients)
