"""Floating-point operations of a step, counted once by torch's own counter: matrix products and convolutions.

What has no matrix product (batch-norm, activations, softmax, Sinkhorn, optimiser) and what a Triton kernel does inside
count nothing, so that TFLOP/s is what a model's utilisation is taken of.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, kw_only=True)
class StepFlops:
    """Forward and backward of all passes of one step."""

    learner: int
    encoder: int
    objective: int


def count_flops(run: Callable[[], object]) -> int:
    """Operations of one call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
