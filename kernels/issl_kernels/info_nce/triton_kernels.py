"""Kernels of InfoNCE: tiles of anchors x targets, whose logits l = a·b / τ are made, used and forgotten.

Of an anchor's row they keep its maximum m, S = Σ exp(l − m) and, over its positives, their number n, Σ (m − l) and
min (m − l): the loss of the row is log S + Σ (m − l) / n. With p = exp(l − m) / S,

    d_l = p − [positive] / n,    d_a = Σ_targets d_l · b,    d_b = Σ_anchors d_l · a

(times upstream / anchors / τ, which the caller multiplies in). One kernel for each of the two sums makes the logits
again; nothing is added atomically, so the same input gives the same bits. Both serve the sigmoid contrast too
(SIGMOID), whose slopes take no statistics: with l = scale · a·b + bias, d_l = σ(l) − [positive].

A tile lies within one view of the anchors and one of the targets, so its images are neighbours: their ranges show
whether it holds an anchor's own image.

Letters: V views of the anchors, G of the targets, B images of the anchors (this rank's), N images of the targets at
hand, D width.
"""

import triton
import triton.language as tl


@triton.jit
def load_rows(pointer, row, mask, first, D: tl.constexpr, WIDTH: tl.constexpr):
    """A tile of rows [D] from column ``first`` on, zero outside."""
    column = first + tl.arange(0, WIDTH)
    offset = row.to(tl.int64)[:, None] * D + column[None, :]
    return tl.load(pointer + offset, mask=mask[:, None] & (column < D)[None, :], other=0)


@triton.jit
def tile_of_logits(
    anchors, targets, a_tile, anchor_row, anchor_mask, target_row, target_mask, scale,
    D: tl.constexpr, STEP: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Anchors x targets; ``a_tile`` holds the anchors' rows where one step is as wide as they are."""
    if D <= STEP:
        b_tile = load_rows(targets, target_row, target_mask, 0, D, STEP)
        product = tl.dot(a_tile, tl.trans(b_tile), input_precision=PRECISION, out_dtype=ACC)
    else:
        product = tl.zeros((anchor_row.shape[0], target_row.shape[0]), ACC)
        for first in range(0, D, STEP):
            a_part = load_rows(anchors, anchor_row, anchor_mask, first, D, STEP)
            b_part = load_rows(targets, target_row, target_mask, first, D, STEP)
            product = tl.dot(a_part, tl.trans(b_part), product, input_precision=PRECISION, out_dtype=ACC)
    return product * scale


@triton.jit
def positives_and_own(
    labels, target_labels, image, target_image, first_image, first_target, is_same_view, LABELS: tl.constexpr,
    anchor_mask, target_mask, KEEP_SELF: tl.constexpr,
):  # fmt: skip
    """(which pairs are positives, which are the anchor's own row, to be left out) of a tile."""
    same_image = (image + first_image)[:, None] == (target_image + first_target)[None, :]
    inside = anchor_mask[:, None] & target_mask[None, :]
    if LABELS:
        label = tl.load(labels + image, mask=anchor_mask, other=-1)
        target_label = tl.load(target_labels + target_image, mask=target_mask, other=-2)
        positive = inside & (label[:, None] == target_label[None, :])
    else:
        positive = inside & same_image
    if KEEP_SELF:
        own = inside & (image[:, None] < 0)
    else:
        own = inside & same_image & is_same_view
    return positive & (own == 0), own


@triton.jit
def needs_masks(
    block, target_block, first_image, first_target, N, LABELS: tl.constexpr, ANCHORS: tl.constexpr,
    TARGETS: tl.constexpr,
):  # fmt: skip
    """Whether a tile may hold positives, own rows or targets outside: in large batches hardly any does,
    and the others compare nothing."""
    first, first_other = block * ANCHORS + first_image, target_block * TARGETS + first_target
    shares_images = (first < first_other + TARGETS) & (first_other < first + ANCHORS)
    return shares_images | ((target_block + 1) * TARGETS > N) | LABELS


@triton.jit
def statistics(
    anchors, targets, labels, target_labels, inverse_temperature, partials, first_image, first_target, B, N,
    tiles_per_split, V: tl.constexpr, G: tl.constexpr, D: tl.constexpr, KEEP_SELF: tl.constexpr,
    LABELS: tl.constexpr, STEP: tl.constexpr, ANCHORS: tl.constexpr, TARGETS: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A tile of anchors against one split of the targets: (m, S, n, Σ (m − l), min (m − l)) of each anchor into
    partials [5, splits, V · B]."""
    inverse = tl.load(inverse_temperature).to(ACC)
    blocks = tl.cdiv(B, ANCHORS)
    v, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image = block * ANCHORS + tl.arange(0, ANCHORS)
    anchor_mask = image < B
    anchor_row = v.to(tl.int64) * B + image
    a_tile = load_rows(anchors, anchor_row, anchor_mask, 0, D, STEP)

    maximum = tl.full((ANCHORS,), -float("inf"), ACC)
    total = tl.zeros((ANCHORS,), ACC)
    count = tl.zeros((ANCHORS,), ACC)
    gap = tl.zeros((ANCHORS,), ACC)
    least_gap = tl.full((ANCHORS,), float("inf"), ACC)
    target_blocks = tl.cdiv(N, TARGETS)
    first_tile = tl.program_id(1) * tiles_per_split
    last_tile = tl.minimum(first_tile + tiles_per_split, G * target_blocks)
    for tile in range(first_tile, last_tile):
        g, target_block = tile // target_blocks, tile % target_blocks
        target_image = target_block * TARGETS + tl.arange(0, TARGETS)
        target_mask = target_image < N
        target_row = g.to(tl.int64) * N + target_image
        logits = tile_of_logits(
            anchors, targets, a_tile, anchor_row, anchor_mask, target_row, target_mask, inverse, D, STEP,
            PRECISION, ACC,
        )  # fmt: skip
        masked = needs_masks(block, target_block, first_image, first_target, N, LABELS, ANCHORS, TARGETS)
        if masked:
            positive, own = positives_and_own(
                labels, target_labels, image, target_image, first_image, first_target, v == g, LABELS, anchor_mask,
                target_mask, KEEP_SELF,
            )  # fmt: skip
            allowed = tl.where(target_mask[None, :] & (own == 0), logits, -float("inf"))
        else:
            allowed = logits
        higher = tl.maximum(maximum, tl.max(allowed, 1))
        # Nothing allowed so far: zero in place of −inf keeps the differences finite.
        level = tl.where(higher == -float("inf"), 0, higher)
        rise = tl.where(maximum == -float("inf"), 0, level - maximum)
        total = total * tl.exp(-rise) + tl.sum(tl.exp(allowed - level[:, None]), 1)
        gap += count * rise
        least_gap += rise
        maximum = higher
        if masked:
            positive, own = positives_and_own(
                labels, target_labels, image, target_image, first_image, first_target, v == g, LABELS, anchor_mask,
                target_mask, KEEP_SELF,
            )  # fmt: skip
            nearest = tl.where(positive, level[:, None] - logits, 0)
            count += tl.sum(tl.where(positive, 1.0, 0.0).to(ACC), 1)
            gap += tl.sum(nearest, 1)
            least_gap = tl.minimum(least_gap, tl.min(tl.where(positive, nearest, float("inf")), 1))
    step = tl.num_programs(1).to(tl.int64) * V * B
    out = partials + tl.program_id(1).to(tl.int64) * V * B + anchor_row
    tl.store(out, maximum, mask=anchor_mask)
    tl.store(out + step, total, mask=anchor_mask)
    tl.store(out + 2 * step, count, mask=anchor_mask)
    tl.store(out + 3 * step, gap, mask=anchor_mask)
    tl.store(out + 4 * step, least_gap, mask=anchor_mask)


@triton.jit
def row_statistics(maxima, inverse_sums, inverse_counts, row, mask, SIGMOID: tl.constexpr, ACC: tl.constexpr):
    """(m, 1 / S, 1 / n) of anchors; the sigmoid contrast has none."""
    if SIGMOID:
        zero = tl.zeros(row.shape, ACC)
        return zero, zero, zero
    maximum = tl.load(maxima + row, mask=mask, other=0)
    inverse_sum = tl.load(inverse_sums + row, mask=mask, other=0)
    inverse_count = tl.load(inverse_counts + row, mask=mask, other=0)
    return maximum, inverse_sum, inverse_count


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(−x)); nothing overflows."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1, small) / (1 + small)


@triton.jit
def slopes(logits, maximum, inverse_sum, SIGMOID: tl.constexpr):
    """Slopes of the losses by the logits of a tile without positives."""
    if SIGMOID:
        return sigmoid(logits)
    return tl.exp(logits - maximum[:, None]) * inverse_sum[:, None]


@triton.jit
def masked_sigmoid_slopes(logits, positive, allowed):
    """Zero where not allowed. A positive's σ(l) − 1 is −σ(−l)."""
    p = sigmoid(tl.where(positive, -logits, logits))
    return tl.where(allowed, tl.where(positive, -p, p), 0)


@triton.jit
def masked_slopes(
    logits, positive, own, target_mask, maximum, inverse_sum, inverse_count, SIGMOID: tl.constexpr
):  # fmt: skip
    """Of any tile; zero for the own row and outside."""
    allowed = target_mask[None, :] & (own == 0)
    if SIGMOID:
        return masked_sigmoid_slopes(logits, positive, allowed)
    p = slopes(logits, maximum, inverse_sum, SIGMOID)
    return tl.where(allowed, p, 0) - tl.where(positive, inverse_count[:, None], 0)


@triton.jit
def slopes_of_tile(
    logits, labels, target_labels, block, target_block, image, target_image, first_image, first_target, is_same_view,
    anchor_mask, target_mask, N, maximum, inverse_sum, inverse_count, KEEP_SELF: tl.constexpr, LABELS: tl.constexpr,
    SIGMOID: tl.constexpr, ANCHORS: tl.constexpr, TARGETS: tl.constexpr,
):  # fmt: skip
    """Slopes of the losses by the logits, masked where the tile needs it."""
    if needs_masks(block, target_block, first_image, first_target, N, LABELS, ANCHORS, TARGETS):
        positive, own = positives_and_own(
            labels, target_labels, image, target_image, first_image, first_target, is_same_view, LABELS, anchor_mask,
            target_mask, KEEP_SELF,
        )  # fmt: skip
        d = masked_slopes(logits, positive, own, target_mask, maximum, inverse_sum, inverse_count, SIGMOID)
    else:
        d = slopes(logits, maximum, inverse_sum, SIGMOID)
    return d


@triton.jit
def anchor_gradients(
    anchors, targets, labels, target_labels, factor, bias, maxima, inverse_sums, inverse_counts, partials,
    first_image, first_target, B, N, tiles_per_split, V: tl.constexpr, G: tl.constexpr, D: tl.constexpr,
    KEEP_SELF: tl.constexpr, LABELS: tl.constexpr, SIGMOID: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr,
    ANCHORS: tl.constexpr, TARGETS: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A tile of anchors against one split of the targets, WIDTH columns of their gradient: into partials
    [splits, V · B, D]."""
    scale = tl.load(factor).to(ACC)
    shift = tl.load(bias).to(ACC) if SIGMOID else 0.0
    blocks = tl.cdiv(B, ANCHORS)
    v, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    # Known to be zero, the rows that are summed are seen to be those of the logits, and are read once.
    first_column = 0 if D <= WIDTH else tl.program_id(2) * WIDTH
    image = block * ANCHORS + tl.arange(0, ANCHORS)
    anchor_mask = image < B
    anchor_row = v.to(tl.int64) * B + image
    a_tile = load_rows(anchors, anchor_row, anchor_mask, 0, D, STEP)
    maximum, inverse_sum, inverse_count = row_statistics(
        maxima, inverse_sums, inverse_counts, anchor_row, anchor_mask, SIGMOID, ACC
    )
    gradient = tl.zeros((ANCHORS, WIDTH), ACC)
    target_blocks = tl.cdiv(N, TARGETS)
    first_tile = tl.program_id(1) * tiles_per_split
    last_tile = tl.minimum(first_tile + tiles_per_split, G * target_blocks)
    for tile in range(first_tile, last_tile):
        g, target_block = tile // target_blocks, tile % target_blocks
        target_image = target_block * TARGETS + tl.arange(0, TARGETS)
        target_mask = target_image < N
        target_row = g.to(tl.int64) * N + target_image
        logits = tile_of_logits(
            anchors, targets, a_tile, anchor_row, anchor_mask, target_row, target_mask, scale, D, STEP,
            PRECISION, ACC,
        )  # fmt: skip
        if SIGMOID:
            logits += shift
        d = slopes_of_tile(
            logits, labels, target_labels, block, target_block, image, target_image, first_image, first_target, v == g,
            anchor_mask, target_mask, N, maximum, inverse_sum, inverse_count, KEEP_SELF, LABELS, SIGMOID, ANCHORS,
            TARGETS,
        )  # fmt: skip
        b_tile = load_rows(targets, target_row, target_mask, first_column, D, WIDTH)
        gradient = tl.dot(d.to(b_tile.dtype), b_tile, gradient, input_precision=PRECISION, out_dtype=ACC)
    column = first_column + tl.arange(0, WIDTH)
    out = partials + (tl.program_id(1).to(tl.int64) * V * B + anchor_row)[:, None] * D + column[None, :]
    tl.store(out, gradient, mask=anchor_mask[:, None] & (column < D)[None, :])


@triton.jit
def target_gradients(
    anchors, targets, labels, target_labels, factor, bias, maxima, inverse_sums, inverse_counts, partials,
    first_image, first_target, B, N, tiles_per_split, V: tl.constexpr, G: tl.constexpr, D: tl.constexpr,
    KEEP_SELF: tl.constexpr, LABELS: tl.constexpr, SIGMOID: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr,
    ANCHORS: tl.constexpr, TARGETS: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A tile of targets against one split of the anchors, WIDTH columns of their gradient: into partials
    [splits, G · N, D]."""
    scale = tl.load(factor).to(ACC)
    shift = tl.load(bias).to(ACC) if SIGMOID else 0.0
    blocks = tl.cdiv(N, TARGETS)
    g, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    # Known to be zero, the rows that are summed are seen to be those of the logits, and are read once.
    first_column = 0 if D <= WIDTH else tl.program_id(2) * WIDTH
    target_image = block * TARGETS + tl.arange(0, TARGETS)
    target_mask = target_image < N
    target_row = g.to(tl.int64) * N + target_image
    b_tile = load_rows(targets, target_row, target_mask, 0, D, STEP)
    gradient = tl.zeros((TARGETS, WIDTH), ACC)
    anchor_blocks = tl.cdiv(B, ANCHORS)
    first_tile = tl.program_id(1) * tiles_per_split
    last_tile = tl.minimum(first_tile + tiles_per_split, V * anchor_blocks)
    for tile in range(first_tile, last_tile):
        v, anchor_block = tile // anchor_blocks, tile % anchor_blocks
        image = anchor_block * ANCHORS + tl.arange(0, ANCHORS)
        anchor_mask = image < B
        anchor_row = v.to(tl.int64) * B + image
        # The transposed tile is what the product below takes: targets x anchors.
        logits = tl.trans(
            tile_of_logits(
                targets, anchors, b_tile, target_row, target_mask, anchor_row, anchor_mask, scale, D, STEP,
                PRECISION, ACC,
            )
        )  # fmt: skip
        if SIGMOID:
            logits += shift
        maximum, inverse_sum, inverse_count = row_statistics(
            maxima, inverse_sums, inverse_counts, anchor_row, anchor_mask, SIGMOID, ACC
        )
        d = slopes_of_tile(
            logits, labels, target_labels, anchor_block, block, image, target_image, first_image, first_target, v == g,
            anchor_mask, target_mask, N, maximum, inverse_sum, inverse_count, KEEP_SELF, LABELS, SIGMOID, ANCHORS,
            TARGETS,
        )  # fmt: skip
        a_tile = load_rows(anchors, anchor_row, anchor_mask, first_column, D, WIDTH)
        gradient = tl.dot(tl.trans(d).to(a_tile.dtype), a_tile, gradient, input_precision=PRECISION, out_dtype=ACC)
    column = first_column + tl.arange(0, WIDTH)
    out = partials + (tl.program_id(1).to(tl.int64) * G * N + target_row)[:, None] * D + column[None, :]
    tl.store(out, gradient, mask=target_mask[:, None] & (column < D)[None, :])
