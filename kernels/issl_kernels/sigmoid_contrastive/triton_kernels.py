"""The forward kernel of the sigmoid contrast: losses and slopes summed along an anchor's row, tile by tile.

With l = scale · a·b + bias and x = −l for positives, l for the others: a pair's loss is log(1 + exp x), its slope by l
is σ(x), negated for positives. The gradients of the rows are made by InfoNCE's kernels (``SIGMOID``).

Letters: V views of the anchors, G of the targets, B images of the anchors (this rank's), N images of the targets at
hand, D width.
"""

import triton
import triton.language as tl

from issl_kernels.info_nce.triton_kernels import (
    load_rows,
    masked_sigmoid_slopes,
    needs_masks,
    positives_and_own,
    sigmoid,
    tile_of_logits,
)


@triton.jit
def softplus(x):
    """log(1 + exp x), to the digits of a float where it is tiny, since thousands of such are added up."""
    small = tl.exp(-tl.abs(x))
    series = small * (1 - small * (1 / 2 - small * (1 / 3 - small * (1 / 4 - small / 5))))
    return tl.maximum(x, 0) + tl.where(small < 0.01, series, tl.log(1 + small))


@triton.jit
def losses(
    anchors, targets, labels, target_labels, factor, bias, partials, first_image, first_target, B, N,
    tiles_per_split, V: tl.constexpr, G: tl.constexpr, D: tl.constexpr, KEEP_SELF: tl.constexpr,
    LABELS: tl.constexpr, STEP: tl.constexpr, ANCHORS: tl.constexpr, TARGETS: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A tile of anchors against one split of the targets: (Σ losses, Σ slopes) of each anchor into partials
    [2, splits, V · B]."""
    scale, shift = tl.load(factor).to(ACC), tl.load(bias).to(ACC)
    blocks = tl.cdiv(B, ANCHORS)
    v, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image = block * ANCHORS + tl.arange(0, ANCHORS)
    anchor_mask = image < B
    anchor_row = v.to(tl.int64) * B + image
    a_tile = load_rows(anchors, anchor_row, anchor_mask, 0, D, STEP)

    loss = tl.zeros((ANCHORS,), ACC)
    slope = tl.zeros((ANCHORS,), ACC)
    target_blocks = tl.cdiv(N, TARGETS)
    first_tile = tl.program_id(1) * tiles_per_split
    last_tile = tl.minimum(first_tile + tiles_per_split, G * target_blocks)
    for tile in range(first_tile, last_tile):
        g, target_block = tile // target_blocks, tile % target_blocks
        target_image = target_block * TARGETS + tl.arange(0, TARGETS)
        target_mask = target_image < N
        target_row = g.to(tl.int64) * N + target_image
        logits = shift + tile_of_logits(
            anchors, targets, a_tile, anchor_row, anchor_mask, target_row, target_mask, scale, D, STEP,
            PRECISION, ACC,
        )  # fmt: skip
        if needs_masks(block, target_block, first_image, first_target, N, LABELS, ANCHORS, TARGETS):
            positive, own = positives_and_own(
                labels, target_labels, image, target_image, first_image, first_target, v == g, LABELS, anchor_mask,
                target_mask, KEEP_SELF,
            )  # fmt: skip
            allowed = target_mask[None, :] & (own == 0)
            loss += tl.sum(tl.where(allowed, softplus(tl.where(positive, -logits, logits)), 0), 1)
            slope += tl.sum(masked_sigmoid_slopes(logits, positive, allowed), 1)
        else:
            loss += tl.sum(softplus(logits), 1)
            slope += tl.sum(sigmoid(logits), 1)
    out = partials + tl.program_id(1).to(tl.int64) * V * B + anchor_row
    tl.store(out, loss, mask=anchor_mask)
    tl.store(out + tl.num_programs(1).to(tl.int64) * V * B, slope, mask=anchor_mask)
