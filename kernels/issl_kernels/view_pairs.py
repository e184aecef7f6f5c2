"""Pairs (target view i, student view j) of an image, and blocks of images: what the soft cross-entropies share.

Letters: G target views, V student views, v of them together, B images, b images of a block, C classes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_ELEMENTS = 2**21
"""Largest block of logits, all views of a few images, in elements (8 MiB in fp32). Smaller ones stay in a core's
cache, but starting the threads for every operation then takes longer than the memory: 2^19 took twice as long."""


def num_pairs(V: int, G: int, skip_same_view: bool) -> int:
    """Pairs that count."""
    return V * G - (min(V, G) if skip_same_view else 0)


def image_blocks(num_images: int, elements_per_image: int) -> Iterator[slice]:
    """Slices of images that fill at most one block (a single image may exceed it)."""
    step = max(1, BLOCK_ELEMENTS // elements_per_image)
    for start in range(0, num_images, step):
        yield slice(start, min(start + step, num_images))


def sum_except(x_GbC: Tensor, skipped: int) -> Tensor | None:
    """Sum over views but one; None where no view is left. May share memory with ``x_GbC``.

    Added up, not subtracted from the sum of all: where the skipped view holds nearly all of that sum, the difference
    would be its rounding error.
    """
    others: list[Tensor] = [view_bC for i, view_bC in enumerate(x_GbC) if i != skipped]
    if not others:
        return None
    total_bC = others[0]
    for view_bC in others[1:]:
        total_bC = total_bC + view_bC
    return total_bC


def shared_targets(t_GbC: Tensor, V: int, skip_same_view: bool) -> Iterator[tuple[slice, Tensor | None, int]]:
    """Student views that are compared with the same targets: (the views, the sum of their targets [b, C], how many).

    Σ_i CE(t_i, s_j) = CE(Σ_i t_i, s_j), so one pass for each student view will do. The sum is None where no target is
    left. Its memory may be that of ``t_GbC``.
    """
    G = len(t_GbC)
    alone = min(V, G) if skip_same_view else 0
    for j in range(alone):
        yield slice(j, j + 1), sum_except(t_GbC, j), G - 1
    if alone < V:
        yield slice(alone, V), (t_GbC[0] if G == 1 else t_GbC.sum(0)), G


def below_maximum(logits_vbC: Tensor, temperature: float, maximum_vb1: Tensor) -> Tensor:
    """(logits − their row's maximum) / temperature, in the maximum's dtype: at most zero, in new memory.

    The maximum goes before the division and stays apart from the log of the row's sum: folded into one log-sum-exp it
    would swallow that log's digits where logits share a large offset.
    """
    below_vbC = torch.sub(logits_vbC.to(maximum_vb1.dtype), maximum_vb1)
    return below_vbC if temperature == 1 else below_vbC.div_(temperature)
