"""Kernels of the soft cross-entropy.

With b = (x − m) / τ, m the row's maximum, S = Σ exp(b), and T_j the sum of the targets of student view j, whose mass
is M_j = Σ_c T_j (the targets need not sum to one exactly):

    Σ_i CE(t_i, s_j) = M_j · log S_j − Σ_c T_j · b_j,        d_j = upstream / pairs / B / τ · (M_j · s_j − T_j)

One read forward: each program takes a block of classes of one image with all its views, below the block's own maximum,
and a small kernel joins the blocks. Backward, one read of everything and one write of the student's gradient.

Letters: V student views, G target views, B images, C classes.
"""

import triton
import triton.language as tl

from issl_kernels.triton_rows import add_except, aligned, fp64, load_views, shifted, zeros


@triton.jit
def leave_one_out(rows, ALONE: tl.constexpr, G: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """Sums of the target rows without the view 0 .. ALONE − 1, and last the sum of all."""
    sums = zeros(ALONE + 1, BLOCK, ACC)
    for i in tl.static_range(G):
        sums = add_except(sums, rows[i].to(ACC), i if i < ALONE else ALONE + 1, ALONE + 1)
    return sums


@triton.jit
def targets_of(sums, j: tl.constexpr, ALONE: tl.constexpr):
    if j < ALONE:
        return sums[j]
    return sums[ALONE]


@triton.jit
def statistics(
    student, targets, partials, B, student_view_stride, student_image_stride, target_view_stride, target_image_stride,
    inverse_temperature: fp64, V: tl.constexpr, G: tl.constexpr, C: tl.constexpr, ALONE: tl.constexpr,
    NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr, ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One image, one block of classes: (maximum, Σ exp, Σ T·b) of the student's views and the masses of the
    ALONE + 1 sums of targets, into partials [3 V + ALONE + 1, B, blocks]."""
    inverse = tl.full((), inverse_temperature, ACC)
    program = tl.program_id(0)
    block, image = program % NUM_BLOCKS, (program // NUM_BLOCKS).to(tl.int64)
    column = block * BLOCK + tl.arange(0, BLOCK)
    mask = column < C
    target_rows = load_views(
        targets + tl.multiple_of(image * target_image_stride, ALIGN), aligned(target_view_stride, ALIGN), column,
        mask, G, 0,
    )  # fmt: skip
    student_rows = load_views(
        student + tl.multiple_of(image * student_image_stride, ALIGN), aligned(student_view_stride, ALIGN), column,
        mask, V, -float("inf"),
    )  # fmt: skip
    sums = leave_one_out(target_rows, ALONE, G, BLOCK, ACC)
    out = partials + image * NUM_BLOCKS + block
    step = tl.full((), B, tl.int64) * NUM_BLOCKS
    for j in tl.static_range(V):
        maximum = tl.max(student_rows[j].to(ACC), 0)
        below = shifted(student_rows[j], maximum, inverse, mask, ACC)
        tl.store(out + (3 * j) * step, maximum)
        tl.store(out + (3 * j + 1) * step, tl.sum(tl.where(mask, tl.exp(below), 0), 0))
        tl.store(out + (3 * j + 2) * step, tl.sum(below * targets_of(sums, j, ALONE), 0))
    for i in tl.static_range(ALONE + 1):
        tl.store(out + (3 * V + i) * step, tl.sum(sums[i], 0))


@triton.jit
def join_blocks(
    partials, maxima, exponentials, masses, losses, B, inverse_temperature: fp64, V: tl.constexpr,
    ALONE: tl.constexpr, NUM_BLOCKS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """One image: maxima, Σ exp [V, B] of whole rows, masses [ALONE + 1, B] and the sum of its pairs' losses [B].
    In double precision, which costs nothing at this size."""
    inverse = tl.full((), inverse_temperature, tl.float64)
    image = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, PADDED)
    mask = block < NUM_BLOCKS
    step = tl.full((), B, tl.int64) * NUM_BLOCKS
    source = partials + image * NUM_BLOCKS + block
    loss = tl.zeros((), tl.float64)
    for j in tl.static_range(V):
        i = j if j < ALONE else ALONE
        mass = tl.load(source + (3 * V + i) * step, mask=mask, other=0).to(tl.float64)
        maximum = tl.load(source + (3 * j) * step, mask=mask, other=-float("inf")).to(tl.float64)
        highest = tl.max(maximum, 0)
        shift = shifted(maximum, highest, inverse, mask, tl.float64)
        exponential = tl.load(source + (3 * j + 1) * step, mask=mask, other=0).to(tl.float64)
        total = tl.sum(tl.where(mask, tl.exp(shift), 0) * exponential, 0)
        dot = tl.sum(tl.load(source + (3 * j + 2) * step, mask=mask, other=0).to(tl.float64) + mass * shift, 0)
        tl.store(maxima + j * B + image, highest)
        tl.store(exponentials + j * B + image, total)
        loss += tl.sum(mass, 0) * tl.log(total) - dot
    for i in tl.static_range(ALONE + 1):
        mass = tl.load(source + (3 * V + i) * step, mask=mask, other=0).to(tl.float64)
        tl.store(masses + i * B + image, tl.sum(mass, 0))
    tl.store(losses + image, loss)


@triton.jit
def gradients(
    student, targets, d_student, maxima, exponentials, masses, upstream, B, student_view_stride, student_image_stride,
    target_view_stride, target_image_stride, d_student_view_stride, d_student_image_stride,
    inverse_temperature: fp64, scale: fp64, V: tl.constexpr, G: tl.constexpr, C: tl.constexpr, ALONE: tl.constexpr,
    NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr, ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One block of classes of one image, all views: a row is read before it is written, so the gradient may take the
    logits' memory."""
    inverse = tl.full((), inverse_temperature, ACC)
    gradient = tl.load(upstream).to(ACC) * tl.full((), scale, ACC) * inverse
    program = tl.program_id(0)
    block, image = program % NUM_BLOCKS, (program // NUM_BLOCKS).to(tl.int64)
    column = block * BLOCK + tl.arange(0, BLOCK)
    mask = column < C
    target_rows = load_views(
        targets + tl.multiple_of(image * target_image_stride, ALIGN), aligned(target_view_stride, ALIGN), column,
        mask, G, 0,
    )  # fmt: skip
    student_rows = load_views(
        student + tl.multiple_of(image * student_image_stride, ALIGN), aligned(student_view_stride, ALIGN), column,
        mask, V, -float("inf"),
    )  # fmt: skip
    sums = leave_one_out(target_rows, ALONE, G, BLOCK, ACC)
    out = d_student + tl.multiple_of(image * d_student_image_stride, ALIGN) + column
    for j in tl.static_range(V):
        i = j if j < ALONE else ALONE
        mass = tl.load(masses + i * B + image)
        inverse_sum = mass / tl.load(exponentials + j * B + image)
        below = shifted(student_rows[j], tl.load(maxima + j * B + image), inverse, mask, ACC)
        tl.store(out, (tl.exp(below) * inverse_sum - targets_of(sums, j, ALONE)) * gradient, mask=mask)
        out += aligned(d_student_view_stride, ALIGN)
