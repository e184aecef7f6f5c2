"""The DISSL loss on Triton kernels: launchers as operations of torch.

Letters: G teacher views, V student views, B images on this rank, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_kernels.collectives import all_reduce_sum_
from issl_kernels.distillation import triton_kernels as kernels
from issl_kernels.distillation.autograd import DistillationPath
from issl_kernels.distillation.settings import Settings
from issl_kernels.operation import gradient_operations, operation
from issl_kernels.precision import arithmetic_dtype
from issl_kernels.triton_launch import (
    TRITON_DTYPES,
    alignment,
    ceil_div,
    next_power_of_2,
    on_device,
    with_contiguous_rows,
)
from issl_kernels.view_pairs import num_pairs

STATISTICS_BLOCK = 2048
"""Classes per program that reads all views of an image: 16 bytes per thread and view in bf16."""
GRADIENT_BLOCK = 1024
"""Classes per program that writes the gradients of all views: fewer, since they take twice the registers."""
TILE_BLOCK = 512
"""Classes per tile of images × classes."""
IMAGES_PER_TILE = 4
IMAGES_PER_CHUNK = 20
"""At least this many images add up before a partial sum of the marginal is stored, so that all partial sums stay a
few percent of the logits."""
FINISH_BLOCK = 4096


class _Shape(NamedTuple):
    G: int
    V: int
    B: int
    C: int

    @staticmethod
    def of(teacher_GBC: Tensor, student_VBC: Tensor) -> "_Shape":
        return _Shape(len(teacher_GBC), *student_VBC.shape)

    @property
    def block(self) -> int:
        return min(STATISTICS_BLOCK, next_power_of_2(self.C))

    @property
    def num_blocks(self) -> int:
        return ceil_div(self.C, self.block)

    @property
    def gradient_block(self) -> int:
        return min(GRADIENT_BLOCK, next_power_of_2(self.C))

    @property
    def tile(self) -> int:
        return min(TILE_BLOCK, next_power_of_2(self.C))

    @property
    def images_per_chunk(self) -> int:
        """As many chunks as fill a large GPU, but no more than IMAGES_PER_CHUNK allows."""
        blocks = ceil_div(self.C, self.tile) * self.G
        chunks = max(1, min(ceil_div(4096, blocks), self.B // IMAGES_PER_CHUNK))
        return ceil_div(self.B, chunks)


def _statistics_results(teacher_GBC: Tensor, student_VBC: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = arithmetic_dtype(teacher_GBC, student_VBC)
    (G, B, C), V = teacher_GBC.shape, student_VBC.shape[0]
    shapes = ((G + V, B), (G + V, B), (G, B), (G * C + C + 3,))
    maxima, exponentials, dots, sums = (teacher_GBC.new_empty(shape, dtype=dtype) for shape in shapes)
    return maxima, exponentials, dots, sums


@operation(results=_statistics_results)
def distillation_statistics(
    teacher_GBC: Tensor, student_VBC: Tensor, teacher_temperature: float, student_temperature: float,
    teacher_pair_weight: float, with_mass: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(maxima [G + V, B], exponentials [G + V, B], dots [G, B], sums [G·C + C + 3]) of this rank's images."""
    teacher_GBC, student_VBC = with_contiguous_rows(teacher_GBC), with_contiguous_rows(student_VBC)
    shape = _Shape.of(teacher_GBC, student_VBC)
    G, V, B, C = shape
    maxima, exponentials, dots, sums = _statistics_results(teacher_GBC, student_VBC)
    sums.zero_()
    new = maxima.new_empty
    contributions = new(3, B)
    partials = new(5 * G + 2 * V, B, shape.num_blocks)
    argmax = new(G, B, shape.num_blocks, dtype=torch.int32)
    inverse_t, inverse_s = 1 / teacher_temperature, 1 / student_temperature
    with on_device(teacher_GBC):
        kernels.statistics[(B * shape.num_blocks,)](
            teacher_GBC, student_VBC, partials, argmax, B, *teacher_GBC.stride()[:2], *student_VBC.stride()[:2],
            inverse_t, inverse_s, G=G, V=V, C=C, NUM_BLOCKS=shape.num_blocks, BLOCK=shape.block,
            ALIGN=alignment(teacher_GBC, student_VBC), ACC=TRITON_DTYPES[sums.dtype], num_warps=8,
        )  # fmt: skip
        kernels.join_blocks[(B,)](
            partials, argmax, maxima, exponentials, dots, contributions, sums[G * C :], B, inverse_t, inverse_s,
            teacher_pair_weight, G=G, V=V, NUM_BLOCKS=shape.num_blocks, PADDED=next_power_of_2(shape.num_blocks),
            num_warps=1,
        )  # fmt: skip
    torch.sum(contributions, 1, out=sums[G * C + C :])
    del partials, argmax
    if with_mass:
        _launch_mass(teacher_GBC, maxima, exponentials, teacher_temperature, sums[: G * C])
    return maxima, exponentials, dots, sums


def _launch_mass(
    teacher_GBC: Tensor, maxima: Tensor, exponentials: Tensor, temperature: float, mass_GC: Tensor
) -> None:  # fmt: skip
    """Sums of the probabilities over this rank's images, into mass [G·C]."""
    shape = _Shape.of(teacher_GBC, teacher_GBC)
    G, _, B, C = shape
    num_tiles, chunks = ceil_div(C, shape.tile), ceil_div(B, shape.images_per_chunk)
    partials = maxima.new_empty(chunks, G * C)
    with on_device(teacher_GBC):
        kernels.mass[(num_tiles * G * chunks,)](
            teacher_GBC, maxima, exponentials, partials, B, *teacher_GBC.stride()[:2], 1 / temperature,
            shape.images_per_chunk, G=G, C=C, NUM_BLOCKS=num_tiles, BLOCK=shape.tile, IMAGES=IMAGES_PER_TILE,
            ALIGN=alignment(teacher_GBC), ACC=TRITON_DTYPES[maxima.dtype], num_warps=4,
        )  # fmt: skip
    torch.sum(partials, 0, out=mass_GC)


def _finish_results(sums: Tensor, G: int) -> tuple[Tensor, Tensor]:
    return sums.new_empty(9), sums.new_empty(G, (sums.shape[0] - 3) // (G + 1))


@operation(results=_finish_results)
def distillation_finish(
    sums: Tensor, num_images: int, V: int, G: int, entropy_weight: float, invariance_weight: float
) -> tuple[Tensor, Tensor]:
    """(loss and its terms [9], log of the marginals [G, C]) from the sums over all ranks."""
    values, log_marginal = _finish_results(sums, G)
    C = log_marginal.shape[1]
    with on_device(sums):
        kernels.finish[(1,)](
            sums, values, log_marginal, num_images, entropy_weight, invariance_weight, PAIRS=num_pairs(V, G, True),
            G=G, C=C, BLOCK=min(FINISH_BLOCK, next_power_of_2(C)), TINY=torch.finfo(sums.dtype).tiny,
            ACC=TRITON_DTYPES[sums.dtype], num_warps=8,
        )  # fmt: skip
    return values, log_marginal


def _launch_gradients(
    d_logits: tuple[Tensor, Tensor], teacher_GBC: Tensor, student_VBC: Tensor, maxima: Tensor, exponentials: Tensor,
    dots: Tensor, log_marginal: Tensor, upstream: Tensor, num_images: int, teacher_temperature: float,
    student_temperature: float, entropy_weight: float, teacher_pair_weight: float,
) -> None:  # fmt: skip
    """Writes the gradients to teacher [G, B, C] and student [V, B, C] logits, which may be the logits themselves."""
    d_teacher_GBC, d_student_VBC = d_logits
    teacher_GBC, student_VBC = with_contiguous_rows(teacher_GBC), with_contiguous_rows(student_VBC)
    shape = _Shape.of(teacher_GBC, student_VBC)
    G, V, B, C = shape
    inverse_t, inverse_s = 1 / teacher_temperature, 1 / student_temperature
    accumulator = TRITON_DTYPES[maxima.dtype]
    marginal_dots = torch.empty_like(dots)
    num_blocks = ceil_div(C, shape.gradient_block)
    with on_device(teacher_GBC):
        kernels.marginal_dots[(ceil_div(B, IMAGES_PER_TILE) * G,)](
            teacher_GBC, maxima, exponentials, log_marginal, marginal_dots, B, *teacher_GBC.stride()[:2], inverse_t,
            G=G, C=C, BLOCK=shape.tile, IMAGES=IMAGES_PER_TILE, ALIGN=alignment(teacher_GBC), ACC=accumulator,
            num_warps=4,
        )  # fmt: skip
        kernels.gradients[(B * num_blocks,)](
            teacher_GBC, student_VBC, d_teacher_GBC, d_student_VBC, maxima, exponentials, dots, log_marginal,
            marginal_dots, upstream, B, *teacher_GBC.stride()[:2], *student_VBC.stride()[:2],
            *d_teacher_GBC.stride()[:2], *d_student_VBC.stride()[:2], inverse_t, inverse_s, 1 / num_images,
            1 / num_pairs(V, G, True), entropy_weight / G, teacher_pair_weight, G=G, V=V, C=C,
            NUM_BLOCKS=num_blocks, BLOCK=shape.gradient_block,
            ALIGN=alignment(teacher_GBC, student_VBC, d_teacher_GBC, d_student_VBC), ACC=accumulator, num_warps=4,
        )  # fmt: skip


distillation_gradients, distillation_gradients_ = gradient_operations(
    "distillation_gradients", _launch_gradients, of=("teacher_GBC", "student_VBC")
)


def _forward(
    teacher_GBC: Tensor, student_VBC: Tensor, settings: Settings, num_images: int, group: ProcessGroup | None
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    G, V = teacher_GBC.shape[0], student_VBC.shape[0]
    maxima, exponentials, dots, sums = distillation_statistics(
        teacher_GBC,
        student_VBC,
        settings.teacher_temperature,
        settings.student_temperature,
        settings.teacher_pair_weight(V, G),
        True,
    )
    values, log_marginal = distillation_finish(
        all_reduce_sum_(sums, group), num_images, V, G, settings.entropy_weight, settings.invariance_weight
    )
    return values[0].clone(), values[1:].clone(), (maxima, exponentials, dots, log_marginal)


def _gradients(
    teacher_GBC: Tensor, student_VBC: Tensor, kept: tuple[Tensor, ...], upstream: Tensor, settings: Settings,
    num_images: int, overwrite_logits: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    maxima, exponentials, dots, log_marginal = kept
    arguments = (
        teacher_GBC, student_VBC, maxima, exponentials, dots, log_marginal, upstream, num_images,
        settings.teacher_temperature, settings.student_temperature, settings.entropy_weight,
        settings.teacher_pair_weight(student_VBC.shape[0], teacher_GBC.shape[0]),
    )  # fmt: skip
    if overwrite_logits:
        distillation_gradients_(*arguments)
        return teacher_GBC, student_VBC
    return distillation_gradients(*arguments)


TRITON = DistillationPath(_forward, _gradients)
