"""InfoNCE on Triton kernels: tile sizes, and launchers as operations of torch.

Letters: V views of the anchors, G of the targets, B images of the anchors, N images of the targets, D width.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from issl_kernels.info_nce import triton_kernels as kernels
from issl_kernels.info_nce.contrast import Contrast, Rows
from issl_kernels.info_nce.statistics import RowStatistics
from issl_kernels.operation import operation
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.shared_memory import HOPPER_SHARED_BYTES, LITTLE_SHARED_BYTES, shared_bytes
from issl_kernels.triton_launch import TRITON_DTYPES, ceil_div, next_power_of_2, on_device

LEAST_WIDTH = 16
"""Columns that a matrix instruction takes at least."""
PROGRAMS = 264
"""Programs that keep a large GPU busy: two for each processor of an H200."""


class Tiles(NamedTuple):
    """How a kernel is cut up."""

    anchors: int
    targets: int
    step: int
    """Columns of the factors of a logit that are multiplied at once."""
    width: int
    """Columns of a gradient that one program makes; where rows are wider, each such slice makes the logits anew."""
    warps: int
    stages: int


def statistics_tiles(dtype: torch.dtype, D: int) -> Tiles:
    """As many anchors as shared memory holds whole; rows wider than that are read anew for each tile."""
    if dtype.itemsize > 2:
        return Tiles(64, 64, 32, 64, 8, 2)
    if D <= 256:
        step = 128 if D <= 128 else 256
        return Tiles(128, 64, step, step, 8, 2)
    if D <= 512:
        return Tiles(128 if shared_bytes() > LITTLE_SHARED_BYTES else 64, 32, 512, 512, 8, 2)
    return Tiles(128, 64, 64, 64, 8, 3)


def _gradient_tiles(dtype: torch.dtype, D: int) -> Tiles:
    """The rows that get the gradient first, those that are summed over second."""
    if dtype.itemsize > 2:
        return Tiles(64, 32, 32, 64, 8, 2)
    if D <= 128:
        return Tiles(128, 64, 128, 128, 8, 2)
    much = shared_bytes() > LITTLE_SHARED_BYTES
    if D <= 256:
        return Tiles(128, 64 if much else 32, 256, 256, 8, 2)
    if D <= 512 and much:
        return Tiles(64, 64, 512, 512, 8, 2)
    return Tiles(64, 64 if shared_bytes() >= HOPPER_SHARED_BYTES else 32, 64, 512, 8, 2)


def _precision(dtype: torch.dtype) -> str:
    """fp32 as three products of TF32, which keep fp32's digits; it has no effect on half precision."""
    return "tf32x3" if dtype == torch.float32 else "ieee"


def fitted(tiles: Tiles, anchors: int, targets: int, D: int) -> Tiles:
    """No larger than the rows there are, nor wider."""

    def fit(size: int, limit: int) -> int:
        return max(LEAST_WIDTH, min(size, next_power_of_2(limit)))

    return tiles._replace(
        anchors=fit(tiles.anchors, anchors),
        targets=fit(tiles.targets, targets),
        step=fit(tiles.step, D),
        width=fit(tiles.width, D),
    )


class Split(NamedTuple):
    tiles: int
    """Of the rows that are summed over, a split."""
    splits: int

    @staticmethod
    def of(programs: int, tiles: int) -> "Split":
        """So many that all programs together keep a GPU busy."""
        count = max(1, min(tiles, PROGRAMS // programs))
        each = ceil_div(tiles, count)
        return Split(each, ceil_div(tiles, each))


def launch_forward(
    kernel: Any, numbers: int, anchors: Rows, targets: Rows, keep_self: bool, *factors: Tensor
) -> Tensor:  # fmt: skip
    """What a forward kernel sums along the logits of each anchor: ``numbers`` of them for each split of the targets,
    [numbers, splits, V · B]. ``factors`` make logits of products."""
    anchors_VBD, targets_GND = anchors.rows.contiguous(), targets.rows.contiguous()
    (V, B, D), (G, N, _) = anchors_VBD.shape, targets_GND.shape
    dtype = arithmetic_dtype(anchors_VBD, targets_GND)
    tiles = fitted(statistics_tiles(anchors_VBD.dtype, D), B, N, D)
    programs = V * ceil_div(B, tiles.anchors)
    split = Split.of(programs, G * ceil_div(N, tiles.targets))
    partials = anchors_VBD.new_empty(numbers, split.splits, V * B, dtype=dtype)
    with on_device(anchors_VBD):
        kernel[(programs, split.splits)](
            anchors_VBD, targets_GND, *_label_pointers(anchors, targets), *factors, partials, anchors.first_image,
            targets.first_image, B, N, split.tiles, V=V, G=G, D=D, KEEP_SELF=keep_self,
            LABELS=anchors.labels is not None, STEP=tiles.step, ANCHORS=tiles.anchors, TARGETS=tiles.targets,
            PRECISION=_precision(anchors_VBD.dtype), ACC=TRITON_DTYPES[dtype], num_warps=tiles.warps,
            num_stages=tiles.stages,
        )  # fmt: skip
    return partials


def launch_gradients(
    anchors: Rows, targets: Rows, keep_self: bool, factor: Tensor, *,
    statistics: tuple[Tensor, Tensor, Tensor] | None = None, bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Logits are products times ``factor``; ``bias`` makes them the sigmoid contrast's, which has no ``statistics``."""
    assert (statistics is None) != (bias is None)
    anchors_VBD, targets_GND = anchors.rows.contiguous(), targets.rows.contiguous()
    (V, B, D), (G, N, _) = anchors_VBD.shape, targets_GND.shape
    dtype = arithmetic_dtype(anchors_VBD, targets_GND)
    tiles = _gradient_tiles(anchors_VBD.dtype, D)
    # Of the two sizes the first is that of the rows which get the gradient.
    for_anchors = fitted(tiles, B, N, D)
    for_targets = fitted(tiles._replace(anchors=tiles.targets, targets=tiles.anchors), B, N, D)
    sides = (
        (kernels.anchor_gradients, for_anchors, (V, B, for_anchors.anchors), (G, N, for_anchors.targets)),
        (kernels.target_gradients, for_targets, (G, N, for_targets.targets), (V, B, for_targets.anchors)),
    )
    found = []
    for kernel, tiles, (views, images, own), (other_views, other_images, other) in sides:
        programs, slices = views * ceil_div(images, own), ceil_div(D, tiles.width)
        split = Split.of(programs * slices, other_views * ceil_div(other_images, other))
        partials = anchors_VBD.new_empty(split.splits, views, images, D, dtype=dtype)
        with on_device(anchors_VBD):
            kernel[(programs, split.splits, slices)](
                anchors_VBD, targets_GND, *_label_pointers(anchors, targets), factor, factor if bias is None else bias,
                *(statistics or (factor,) * 3), partials, anchors.first_image, targets.first_image, B, N,
                split.tiles, V=V, G=G, D=D, KEEP_SELF=keep_self, LABELS=anchors.labels is not None,
                SIGMOID=bias is not None, STEP=tiles.step, WIDTH=tiles.width, ANCHORS=tiles.anchors,
                TARGETS=tiles.targets, PRECISION=_precision(anchors_VBD.dtype), ACC=TRITON_DTYPES[dtype],
                num_warps=tiles.warps, num_stages=tiles.stages,
            )  # fmt: skip
        found.append(partials[0] if split.splits == 1 else partials.sum(0))
    return found[0], found[1]


def _label_pointers(anchors: Rows, targets: Rows) -> tuple[Tensor, Tensor]:
    """Where there are no labels the kernel reads none, but takes a pointer."""
    if anchors.labels is None or targets.labels is None:
        return anchors.rows, anchors.rows
    return anchors.labels.contiguous(), targets.labels.contiguous()


def _statistics_results(anchors_VBD: Tensor, targets_GND: Tensor) -> Tensor:
    V, B, _ = anchors_VBD.shape
    return anchors_VBD.new_empty(5, V * B, dtype=arithmetic_dtype(anchors_VBD, targets_GND))


@operation(results=_statistics_results)
def info_nce_statistics(
    anchors_VBD: Tensor, targets_GND: Tensor, labels_B: Tensor | None, target_labels_N: Tensor | None,
    inverse_temperature: Tensor, first_image: int, first_target: int, keep_self: bool,
) -> Tensor:  # fmt: skip
    """RowStatistics of each anchor [5, V · B]."""
    anchors, targets = Rows(anchors_VBD, labels_B, first_image), Rows(targets_GND, target_labels_N, first_target)
    partials = launch_forward(kernels.statistics, 5, anchors, targets, keep_self, inverse_temperature)
    joined, *parts = [RowStatistics(*part.unbind()) for part in partials.unbind(1)]
    for part in parts:
        joined = joined.join(part)
    return torch.stack(tuple(joined))


def gradients_results(anchors_VBD: Tensor, targets_GND: Tensor) -> tuple[Tensor, Tensor]:
    """Empty, as ``launch_gradients`` returns them."""
    dtype = arithmetic_dtype(anchors_VBD, targets_GND)
    return anchors_VBD.new_empty(anchors_VBD.shape, dtype=dtype), targets_GND.new_empty(targets_GND.shape, dtype=dtype)


@operation(results=gradients_results)
def info_nce_gradients(
    anchors_VBD: Tensor, targets_GND: Tensor, labels_B: Tensor | None, target_labels_N: Tensor | None,
    inverse_temperature: Tensor, first_image: int, first_target: int, keep_self: bool, maxima: Tensor,
    inverse_sums: Tensor, inverse_counts: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(Σ_targets d_l · b [V, B, D], Σ_anchors d_l · a [G, N, D]); see Contrast."""
    anchors, targets = Rows(anchors_VBD, labels_B, first_image), Rows(targets_GND, target_labels_N, first_target)
    statistics = (maxima, inverse_sums, inverse_counts)
    return launch_gradients(anchors, targets, keep_self, inverse_temperature, statistics=statistics)


def _statistics(anchors: Rows, targets: Rows, inverse_temperature: Tensor, keep_self: bool) -> RowStatistics:
    found = info_nce_statistics(
        *of_one_dtype(anchors, targets), anchors.labels, targets.labels, inverse_temperature, anchors.first_image,
        targets.first_image, keep_self,
    )  # fmt: skip
    return RowStatistics(*found.unbind())


def _gradients(
    anchors: Rows,
    targets: Rows,
    inverse_temperature: Tensor,
    keep_self: bool,
    statistics: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    return info_nce_gradients(
        *of_one_dtype(anchors, targets), anchors.labels, targets.labels, inverse_temperature, anchors.first_image,
        targets.first_image, keep_self, *statistics,
    )  # fmt: skip


def of_one_dtype(anchors: Rows, targets: Rows) -> tuple[Tensor, Tensor]:
    """A product takes factors of one dtype."""
    dtype = torch.promote_types(anchors.rows.dtype, targets.rows.dtype)
    return anchors.rows.to(dtype), targets.rows.to(dtype)


TRITON = Contrast(_statistics, _gradients)
