"""The DISSL loss in Triton.

With x a logit, m its row's maximum and τ the temperature, b = (x − m) / τ, so that a row's probabilities are
exp(b) / Σ exp(b) and its log-probabilities b − log Σ exp(b). For teacher views i, k and student views j of one image:

    Σ_{j≠i} CE(t_i, s_j)  =  Σ_{j≠i} log S_j  −  A_i,    A_i = Σ_c t_i · Σ_{j≠i} b_j
    Σ_{k≠i} CE(t_i, t_k)  =  Σ_{k≠i} log S_k  −  T_i,    T_i = Σ_c t_i · Σ_{k≠i} b_k
    H(t_i)                =  log S_i  −  E_i,            E_i = Σ_c t_i · b_i

All of these come out of one read: each program takes a block of classes of one image, with all its views, below the
block's own maximum, and a small kernel joins the blocks. Only the marginal needs probabilities that are normalised
first: a second read, of the teacher's rows alone. The gradient to the teacher's row i is

    d_i = t_i · (w_i − Σ_c t_i · w_i)  +  u · ((G − 1) · t_i − Σ_{k≠i} t_k),
    w_i = r · λ/G · log M_i  −  q · Σ_{j≠i} b_j  −  u · Σ_{k≠i} b_k

with r = upstream / N, q = r / pairs, u = r · β / (G (G − 1)), all divided by τ_t; to the student's row j it is
q · (n_j · s_j − Σ_{i≠j} t_i) / τ_s, n_j the number of its targets. Σ t·w is known from the forward pass but for the
marginal's part: a third read of the teacher's rows, then one read and one write of everything.

Letters: G teacher views, V student views, B images on this rank, N of all ranks, C classes.
Sums over images go through partial sums of fixed order, so the same input gives the same bits.
"""

import triton
import triton.language as tl

from issl_kernels.triton_rows import add_except, aligned, fp64, load_views, shifted, zeros


@triton.jit
def statistics(
    teacher, student, partials, argmax, B, teacher_view_stride, teacher_image_stride, student_view_stride,
    student_image_stride, inverse_teacher_temperature: fp64, inverse_student_temperature: fp64,
    G: tl.constexpr, V: tl.constexpr, C: tl.constexpr, NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
    ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One image, one block of classes: (maximum, Σ exp, E, T, A) of teacher views, (maximum, Σ exp) of student views
    into partials [5 G + 2 V, B, blocks]; the place of the maximum into argmax [G, B, blocks]."""
    inverse_t = tl.full((), inverse_teacher_temperature, ACC)
    inverse_s = tl.full((), inverse_student_temperature, ACC)
    program = tl.program_id(0)
    block, image = program % NUM_BLOCKS, (program // NUM_BLOCKS).to(tl.int64)
    column = block * BLOCK + tl.arange(0, BLOCK)
    mask = column < C
    teacher_rows = load_views(
        teacher + tl.multiple_of(image * teacher_image_stride, ALIGN), aligned(teacher_view_stride, ALIGN),
        column, mask, G, -float("inf"),
    )  # fmt: skip
    student_rows = load_views(
        student + tl.multiple_of(image * student_image_stride, ALIGN), aligned(student_view_stride, ALIGN),
        column, mask, V, -float("inf"),
    )  # fmt: skip
    out = partials + image * NUM_BLOCKS + block
    step = tl.full((), B, tl.int64) * NUM_BLOCKS

    students = zeros(G, BLOCK, ACC)
    for j in tl.static_range(V):
        maximum = tl.max(student_rows[j].to(ACC), 0)
        below = shifted(student_rows[j], maximum, inverse_s, mask, ACC)
        students = add_except(students, below, j, G)
        tl.store(out + (5 * G + 2 * j) * step, maximum)
        tl.store(out + (5 * G + 2 * j + 1) * step, tl.sum(tl.where(mask, tl.exp(below), 0), 0))
    teachers = zeros(G, BLOCK, ACC)
    below_rows = ()
    for i in tl.static_range(G):
        maximum = tl.max(teacher_rows[i].to(ACC), 0)
        below = shifted(teacher_rows[i], maximum, inverse_t, mask, ACC)
        below_rows = below_rows + (below,)
        teachers = add_except(teachers, below, i, G)
        tl.store(out + (5 * i) * step, maximum)
        highest = tl.where(teacher_rows[i].to(ACC) == maximum, column, C - 1)
        tl.store(argmax + (i * B + image) * NUM_BLOCKS + block, tl.min(highest, 0))
    for i in tl.static_range(G):
        weight = tl.where(mask, tl.exp(below_rows[i]), 0)
        tl.store(out + (5 * i + 1) * step, tl.sum(weight, 0))
        tl.store(out + (5 * i + 2) * step, tl.sum(weight * below_rows[i], 0))
        tl.store(out + (5 * i + 3) * step, tl.sum(weight * teachers[i], 0))
        tl.store(out + (5 * i + 4) * step, tl.sum(weight * students[i], 0))


@triton.jit
def join_blocks(
    partials, argmax, maxima, exponentials, dots, contributions, used, B, inverse_teacher_temperature: fp64,
    inverse_student_temperature: fp64, teacher_pair_weight: fp64, G: tl.constexpr, V: tl.constexpr,
    NUM_BLOCKS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """One image: maxima and Σ exp [G + V, B] of whole rows, dots A_i + weight · T_i [G, B], its share of the sums
    (distillation, invariance, entropy) in contributions [3, B], and which classes are some teacher row's highest.

    In double precision, which costs nothing at this size: the maxima's differences may be large, and their sums are
    taken from others like them in the backward pass.
    """
    inverse_t = tl.full((), inverse_teacher_temperature, tl.float64)
    inverse_s = tl.full((), inverse_student_temperature, tl.float64)
    pair_weight = tl.full((), teacher_pair_weight, tl.float64)
    image = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, PADDED)
    mask = block < NUM_BLOCKS
    step = tl.full((), B, tl.int64) * NUM_BLOCKS
    source = partials + image * NUM_BLOCKS + block

    teacher_shifts = ()
    teacher_weights = ()
    teacher_sums = ()
    distillation = tl.zeros((), tl.float64)
    invariance = tl.zeros((), tl.float64)
    entropy = tl.zeros((), tl.float64)
    for i in tl.static_range(G):
        maximum = tl.load(source + (5 * i) * step, mask=mask, other=-float("inf")).to(tl.float64)
        highest = tl.max(maximum, 0)
        shift = shifted(maximum, highest, inverse_t, mask, tl.float64)
        weight = tl.where(mask, tl.exp(shift), 0)
        weighted = weight * tl.load(source + (5 * i + 1) * step, mask=mask, other=0).to(tl.float64)
        total = tl.sum(weighted, 0)
        first = tl.min(tl.where(mask & (maximum == highest), block, NUM_BLOCKS - 1), 0)
        tl.store(used + tl.load(argmax + (i * B + image) * NUM_BLOCKS + first), 1.0)
        tl.store(maxima + i * B + image, highest)
        tl.store(exponentials + i * B + image, total)
        invariance += (G - 1) * tl.log(total)
        below = weight * tl.load(source + (5 * i + 2) * step, mask=mask, other=0).to(tl.float64) + weighted * shift
        entropy += tl.log(total) - tl.sum(below, 0) / total
        teacher_shifts = teacher_shifts + (shift,)
        teacher_weights = teacher_weights + (weight,)
        teacher_sums = teacher_sums + (weighted,)
    student_shifts = ()
    for j in tl.static_range(V):
        row = 5 * G + 2 * j
        maximum = tl.load(source + row * step, mask=mask, other=-float("inf")).to(tl.float64)
        highest = tl.max(maximum, 0)
        shift = shifted(maximum, highest, inverse_s, mask, tl.float64)
        weight = tl.where(mask, tl.exp(shift), 0)
        total = tl.sum(weight * tl.load(source + (row + 1) * step, mask=mask, other=0).to(tl.float64), 0)
        tl.store(maxima + (G + j) * B + image, highest)
        tl.store(exponentials + (G + j) * B + image, total)
        if j < G:
            distillation += (G - 1) * tl.log(total)
        else:
            distillation += G * tl.log(total)
        student_shifts = student_shifts + (shift,)
    for i in tl.static_range(G):
        teachers = tl.zeros((PADDED,), tl.float64)
        for k in tl.static_range(G):
            if k != i:
                teachers += teacher_shifts[k]
        students = tl.zeros((PADDED,), tl.float64)
        for j in tl.static_range(V):
            if j != i:
                students += student_shifts[j]
        total = tl.sum(teacher_sums[i], 0)
        cross = teacher_weights[i] * tl.load(source + (5 * i + 3) * step, mask=mask, other=0).to(tl.float64)
        dot_teachers = tl.sum(cross + teacher_sums[i] * teachers, 0) / total
        cross = teacher_weights[i] * tl.load(source + (5 * i + 4) * step, mask=mask, other=0).to(tl.float64)
        dot_students = tl.sum(cross + teacher_sums[i] * students, 0) / total
        invariance -= dot_teachers
        distillation -= dot_students
        tl.store(dots + i * B + image, dot_students + pair_weight * dot_teachers)
    tl.store(contributions + image, distillation)
    tl.store(contributions + B + image, invariance)
    tl.store(contributions + 2 * tl.full((), B, tl.int64) + image, entropy)


@triton.jit
def probabilities(
    teacher, maxima, exponentials, image, image_mask, column, C, image_stride, inverse_temperature,
    ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Teacher's probabilities, a tile of images × classes; zero outside."""
    mask = image_mask[:, None] & (column < C)[None, :]
    offset = tl.multiple_of(image * image_stride, ALIGN)[:, None] + column[None, :]
    x = tl.load(teacher + offset, mask=mask, other=-float("inf")).to(ACC)
    maximum = tl.load(maxima + image, mask=image_mask, other=0)
    inverse_sum = 1 / tl.load(exponentials + image, mask=image_mask, other=1)
    below = (x - maximum[:, None]) * inverse_temperature
    return tl.where(mask, tl.exp(below) * inverse_sum[:, None], 0)


@triton.jit
def mass(
    teacher, maxima, exponentials, partials, B, view_stride, image_stride, inverse_temperature: fp64,
    images_per_chunk, G: tl.constexpr, C: tl.constexpr, NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
    IMAGES: tl.constexpr, ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One view, one block of classes, one chunk of images: Σ t into partials [chunks, G, C]."""
    inverse = tl.full((), inverse_temperature, ACC)
    program = tl.program_id(0)
    block, i, chunk = program % NUM_BLOCKS, program // NUM_BLOCKS % G, program // (NUM_BLOCKS * G)
    column = block * BLOCK + tl.arange(0, BLOCK)
    first = chunk * images_per_chunk
    last = tl.minimum(first + images_per_chunk, B)
    teacher += tl.multiple_of(i.to(tl.int64) * view_stride, ALIGN)
    mass = tl.zeros((IMAGES, BLOCK), ACC)
    for start in range(first, last, IMAGES):
        image = (start + tl.arange(0, IMAGES)).to(tl.int64)
        mass += probabilities(
            teacher, maxima + i * B, exponentials + i * B, image, image < last, column, C, image_stride, inverse,
            ALIGN, ACC,
        )  # fmt: skip
    out = partials + (chunk.to(tl.int64) * G + i) * C + column
    tl.store(out, tl.sum(mass, 0), mask=column < C)


@triton.jit
def finish(
    sums, values, log_marginal, N, entropy_weight: fp64, invariance_weight: fp64, PAIRS: tl.constexpr,
    G: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr, TINY: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A single program: the loss and its terms [9] and log M [G, C] from the sums over all ranks."""
    entropies = tl.zeros((BLOCK,), ACC)
    used = tl.zeros((BLOCK,), ACC)
    images = tl.full((), N, ACC)
    for start in range(0, C, BLOCK):
        column = start + tl.arange(0, BLOCK)
        mask = column < C
        used += tl.where(tl.load(sums + G * C + column, mask=mask, other=0) > 0, 1, 0)
        for i in tl.static_range(G):
            marginal = tl.load(sums + i * C + column, mask=mask, other=0) / images
            log_marginal_c = tl.log(tl.maximum(marginal, TINY))
            entropies -= marginal * log_marginal_c
            tl.store(log_marginal + i * C + column, log_marginal_c, mask=mask)
    crosses = sums + G * C + C
    entropy = tl.sum(entropies, 0) / G
    distillation_ce = tl.load(crosses) / (images * PAIRS)
    conditional = tl.load(crosses + 2) / (images * G)
    invariance_ce = tl.zeros((), ACC)
    kl_invariance = tl.zeros((), ACC)
    if G > 1:
        invariance_ce += tl.load(crosses + 1) / (images * (G * (G - 1)))
        kl_invariance += invariance_ce - conditional
    loss = distillation_ce - tl.full((), entropy_weight, ACC) * entropy
    tl.store(values, loss + tl.full((), invariance_weight, ACC) * invariance_ce)
    tl.store(values + 1, distillation_ce)
    tl.store(values + 2, entropy)
    tl.store(values + 3, conditional)
    tl.store(values + 4, invariance_ce)
    tl.store(values + 5, kl_invariance)
    tl.store(values + 6, distillation_ce - conditional)
    tl.store(values + 7, tl.exp(entropy))
    tl.store(values + 8, tl.sum(used, 0))


@triton.jit
def marginal_dots(
    teacher, maxima, exponentials, log_marginal, marginal_dots, B, view_stride, image_stride,
    inverse_temperature: fp64, G: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr, IMAGES: tl.constexpr,
    ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One view of a few images: Σ_c t · log M into marginal_dots [G, B]."""
    inverse = tl.full((), inverse_temperature, ACC)
    i = tl.program_id(0) % G
    image = (tl.program_id(0) // G * IMAGES + tl.arange(0, IMAGES)).to(tl.int64)
    teacher += tl.multiple_of(i.to(tl.int64) * view_stride, ALIGN)
    dots = tl.zeros((IMAGES, BLOCK), ACC)
    for start in range(0, C, BLOCK):
        column = start + tl.arange(0, BLOCK)
        t = probabilities(
            teacher, maxima + i * B, exponentials + i * B, image, image < B, column, C, image_stride, inverse,
            ALIGN, ACC,
        )  # fmt: skip
        dots += t * tl.load(log_marginal + i * C + column, mask=column < C, other=0)[None, :]
    tl.store(marginal_dots + i * B + image, tl.sum(dots, 1), mask=image < B)


@triton.jit
def gradients(
    teacher, student, d_teacher, d_student, maxima, exponentials, dots, log_marginal, marginal_dots, upstream, B,
    teacher_view_stride, teacher_image_stride, student_view_stride, student_image_stride, d_teacher_view_stride,
    d_teacher_image_stride, d_student_view_stride, d_student_image_stride, inverse_teacher_temperature: fp64,
    inverse_student_temperature: fp64, per_image: fp64, per_pair: fp64, marginal_weight: fp64,
    teacher_pair_weight: fp64, G: tl.constexpr, V: tl.constexpr, C: tl.constexpr, NUM_BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr, ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One block of classes of one image, all views: read before anything is written, so the gradients may take
    the logits' memory."""
    inverse_t = tl.full((), inverse_teacher_temperature, ACC)
    inverse_s = tl.full((), inverse_student_temperature, ACC)
    gradient = tl.load(upstream).to(ACC) * tl.full((), per_image, ACC)
    pair = tl.full((), per_pair, ACC)
    marginal = tl.full((), marginal_weight, ACC)
    teacher_pair = pair * tl.full((), teacher_pair_weight, ACC)
    block, image = tl.program_id(0) % NUM_BLOCKS, (tl.program_id(0) // NUM_BLOCKS).to(tl.int64)
    column = block * BLOCK + tl.arange(0, BLOCK)
    mask = column < C
    teacher_rows = load_views(
        teacher + tl.multiple_of(image * teacher_image_stride, ALIGN),
        aligned(teacher_view_stride, ALIGN), column, mask, G, -float("inf"),
    )  # fmt: skip
    student_rows = load_views(
        student + tl.multiple_of(image * student_image_stride, ALIGN),
        aligned(student_view_stride, ALIGN), column, mask, V, -float("inf"),
    )  # fmt: skip
    teachers = zeros(G, BLOCK, ACC)
    targets = zeros(G, BLOCK, ACC)
    all_targets = tl.zeros((BLOCK,), ACC)
    t_rows = ()
    for i in tl.static_range(G):
        maximum = tl.load(maxima + i * B + image)
        inverse_sum = 1 / tl.load(exponentials + i * B + image)
        below = shifted(teacher_rows[i], maximum, inverse_t, mask, ACC)
        t = tl.exp(below) * inverse_sum
        teachers = add_except(teachers, below, i, G)
        targets = add_except(targets, t, i, G)
        all_targets += t
        t_rows = t_rows + (t,)
    students = zeros(G, BLOCK, ACC)
    out = d_student + tl.multiple_of(image * d_student_image_stride, ALIGN) + column
    for j in tl.static_range(V):
        maximum = tl.load(maxima + (G + j) * B + image)
        inverse_sum = 1 / tl.load(exponentials + (G + j) * B + image)
        below = shifted(student_rows[j], maximum, inverse_s, mask, ACC)
        students = add_except(students, below, j, G)
        s = tl.exp(below) * inverse_sum
        if j < G:
            difference = (G - 1) * s - targets[j]
        else:
            difference = G * s - all_targets
        tl.store(out, difference * (gradient * pair * inverse_s), mask=mask)
        out += aligned(d_student_view_stride, ALIGN)
    out = d_teacher + tl.multiple_of(image * d_teacher_image_stride, ALIGN) + column
    for i in tl.static_range(G):
        slope = tl.load(log_marginal + i * C + column, mask=mask, other=0) * marginal
        slope -= teachers[i] * teacher_pair + students[i] * pair
        dot = tl.load(marginal_dots + i * B + image) * marginal - tl.load(dots + i * B + image) * pair
        d = t_rows[i] * (slope - dot) + ((G - 1) * t_rows[i] - targets[i]) * teacher_pair
        tl.store(out, d * (gradient * inverse_t), mask=mask)
        out += aligned(d_teacher_view_stride, ALIGN)
