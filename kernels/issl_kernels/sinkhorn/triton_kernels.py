"""Kernels of Sinkhorn-Knopp with log potentials of the columns.

With h the columns' maxima over all ranks, b = (scores − h) / ε and v the columns' potentials, one iteration is

    r_n = log Σ_k exp(b_nk + v_k),      v_k ← −log Σ_n exp(b_nk − r_n)

from v = −log Σ_n exp(b_n), and the assignment of image n is softmax_k(b_nk + v_k). A program takes a few rows: it reads
them for r, then once more, from the cache, for its share of the columns' sums, kept as a maximum and a sum of
exponentials below it; a small kernel joins the shares. Nothing of the scores' size is written but the result.

Potentials and differences are in double precision, exponentials in single: with scores of 10 000 over an epsilon of
0.01 the potentials are of the order of a million, and two columns differ only in their last digits.

Letters: N images on this rank, K prototypes.
"""

import triton
import triton.language as tl

from issl_kernels.triton_rows import fp64


@triton.jit
def load_tile(
    scores, row, row_mask, column, row_stride, K: tl.constexpr, ALIGN: tl.constexpr
):  # fmt: skip
    """Scores of a tile of rows × columns, −inf outside."""
    mask = row_mask[:, None] & (column < K)[None, :]
    offset = tl.multiple_of(row * row_stride, ALIGN)[:, None] + column[None, :]
    return tl.load(scores + offset, mask=mask, other=-float("inf")).to(tl.float64)


@triton.jit
def row_normalisers(
    scores, highest, potentials, row, row_mask, row_stride, inverse_epsilon, K: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """(maximum, Σ exp below it) over k of b + v, for a few rows."""
    maximum = tl.full((ROWS,), -float("inf"), tl.float64)
    total = tl.zeros((ROWS,), ACC)
    for start in range(0, K, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = load_tile(scores, row, row_mask, column, row_stride, K, ALIGN)
        h = tl.load(highest + column, mask=column < K, other=0)
        v = tl.load(potentials + column, mask=column < K, other=0)
        y = (x - h[None, :]) * inverse_epsilon + v[None, :]
        # Rows outside hold −inf only; zero in its place keeps the differences finite.
        higher = tl.maximum(maximum, tl.max(y, 1))
        higher = tl.where(row_mask, higher, 0)
        total = total * tl.exp((maximum - higher).to(ACC)) + tl.sum(tl.exp((y - higher[:, None]).to(ACC)), 1)
        maximum = higher
    return maximum, tl.where(row_mask, total, 1)


@triton.jit
def column_shares(
    scores, highest, potentials, tops, shares, N, row_stride, inverse_epsilon: fp64, FIRST: tl.constexpr,
    K: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A few rows' share (maximum, Σ exp below it) of every column, into tops and shares [programs, K]: of b − r, or of
    the scores themselves in the FIRST pass, whose maxima are in their unit."""
    inverse = tl.full((), inverse_epsilon, tl.float64)
    program = tl.program_id(0).to(tl.int64)
    row = program * ROWS + tl.arange(0, ROWS)
    row_mask = row < N
    r = tl.zeros((ROWS,), tl.float64)
    if not FIRST:
        maximum, total = row_normalisers(
            scores, highest, potentials, row, row_mask, row_stride, inverse, K, ROWS, BLOCK, ALIGN, ACC
        )
        r += maximum + tl.log(total).to(tl.float64)
    out = program * K
    for start in range(0, K, BLOCK):
        column = start + tl.arange(0, BLOCK)
        mask = column < K
        x = load_tile(scores, row, row_mask, column, row_stride, K, ALIGN)
        if FIRST:
            top = tl.max(x, 0)
            y = (x - tl.where(mask, top, 0)[None, :]) * inverse
            share = tl.sum(tl.exp(y.to(ACC)), 0)
        else:
            h = tl.load(highest + column, mask=mask, other=0)
            y = (x - h[None, :]) * inverse - r[:, None]
            top = tl.max(y, 0)
            share = tl.sum(tl.exp((y - tl.where(mask, top, 0)[None, :]).to(ACC)), 0)
        tl.store(tops + out + column, top, mask=mask)
        tl.store(shares + out + column, share, mask=mask)


@triton.jit
def join_shares(
    tops, shares, joined, PROGRAMS, inverse_unit: fp64, K: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Columns' (maximum, Σ exp below it, −log Σ) over this rank's rows, into joined [3, K]. ``inverse_unit`` turns
    differences of maxima into differences of logs."""
    inverse = tl.full((), inverse_unit, tl.float64)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    maximum = tl.full((BLOCK,), -float("inf"), tl.float64)
    total = tl.zeros((BLOCK,), ACC)
    for start in range(0, PROGRAMS, ROWS):
        program = (start + tl.arange(0, ROWS)).to(tl.int64)
        mask = (program < PROGRAMS)[:, None] & (column < K)[None, :]
        offset = program[:, None] * K + column[None, :]
        top = tl.load(tops + offset, mask=mask, other=-float("inf"))
        higher = tl.where(column < K, tl.maximum(maximum, tl.max(top, 0)), 0)
        share = tl.load(shares + offset, mask=mask, other=0)
        total = total * tl.exp(((maximum - higher) * inverse).to(ACC))
        total += tl.sum(share * tl.exp(((top - higher[None, :]) * inverse).to(ACC)), 0)
        maximum = higher
    total = tl.where(column < K, total, 1).to(tl.float64)
    tl.store(joined + column, maximum, mask=column < K)
    tl.store(joined + K + column, total, mask=column < K)
    tl.store(joined + 2 * K + column, -tl.log(total), mask=column < K)


@triton.jit
def assign(
    scores, highest, potentials, assignments, N, row_stride, inverse_epsilon: fp64, K: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Softmax over k of b + v, for a few rows."""
    inverse = tl.full((), inverse_epsilon, tl.float64)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row_mask = row < N
    maximum, total = row_normalisers(
        scores, highest, potentials, row, row_mask, row_stride, inverse, K, ROWS, BLOCK, ALIGN, ACC
    )
    inverse_total = 1 / total
    for start in range(0, K, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = load_tile(scores, row, row_mask, column, row_stride, K, ALIGN)
        h = tl.load(highest + column, mask=column < K, other=0)
        v = tl.load(potentials + column, mask=column < K, other=0)
        y = (x - h[None, :]) * inverse + v[None, :]
        out = assignments + row[:, None] * K + column[None, :]
        mask = row_mask[:, None] & (column < K)[None, :]
        tl.store(out, tl.exp((y - maximum[:, None]).to(ACC)) * inverse_total[:, None], mask=mask)
