"""Recomputes activations of blocks in the backward pass instead of keeping them: less memory, about a third more work.

Batch-norm's running statistics move in the first pass only; gradients are those without it, as the second pass sees
the same input, weights, random numbers and autocast.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute_in_backward(blocks: Iterable[nn.Module]) -> None:
    """From now on, only the inputs of each of ``blocks`` are kept for the backward pass. Names of weights stay."""
    for block in blocks:
        block.forward = partial(
            checkpoint, block.forward, use_reentrant=False, preserve_rng_state=True, context_fn=partial(_passes, block)
        )


def _passes(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first pass, and what the second."""
    return nullcontext(), _statistics_stay(block)


@contextmanager
def _statistics_stay(block: nn.Module) -> Iterator[None]:
    """Batch-norm normalises by the batch as always, and its running statistics stay as they are."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:  # a share of 0, and a counter to throw away: operations and what they keep stay the same
        norm.momentum, norm.num_batches_tracked = 0.0, torch.zeros(1, dtype=torch.long)
    try:
        yield
    finally:  # the second pass is broken off by an exception as soon as it has what is needed
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
