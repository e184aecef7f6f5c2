"""Parts of Triton kernels whose programs hold one block of classes of all views of an image."""

import triton
import triton.language as tl

fp64 = tl.float64
"""Annotates scalars that must reach a kernel in double precision; they are narrowed there."""


@triton.jit
def aligned(stride, ALIGN: tl.constexpr):
    """The stride in 64 bits, with what is known of its divisors. (Triton makes a constant of a stride of 1.)"""
    return tl.multiple_of(tl.full((), stride, tl.int64), ALIGN)


@triton.jit
def load_views(pointer, view_stride, offset, mask, VIEWS: tl.constexpr, OTHER: tl.constexpr):
    """Rows of all views of an image, in their own dtype, OTHER where masked: every load is under way before the first
    is used."""
    rows = ()
    for _ in tl.static_range(VIEWS):
        rows = rows + (tl.load(pointer + offset, mask=mask, other=OTHER),)
        pointer += view_stride
    return rows


@triton.jit
def shifted(x, maximum, inverse_temperature, mask, ACC: tl.constexpr):
    """(x − maximum) / temperature; zero where masked, so that products with it stay finite."""
    return tl.where(mask, (x.to(ACC) - maximum) * inverse_temperature, 0)


@triton.jit
def zeros(COUNT: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):
    sums = ()
    for _ in tl.static_range(COUNT):
        sums = sums + (tl.zeros((BLOCK,), ACC),)
    return sums


@triton.jit
def add_except(sums, x, skipped: tl.constexpr, COUNT: tl.constexpr):
    """Adds x to every sum but one. Added up, never the sum of all less one's own: that would be rounding error where
    one view holds nearly everything."""
    added = ()
    for i in tl.static_range(COUNT):
        if i == skipped:
            added = added + (sums[i],)
        else:
            added = added + (sums[i] + x,)
    return added
