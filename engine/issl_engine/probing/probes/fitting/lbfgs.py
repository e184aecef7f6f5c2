"""L-BFGS with a preconditioner, down to a bound on the distance from the optimum.

Liu and Nocedal (1989), with the preconditioner as the initial inverse Hessian. Steps are halved until the loss falls by
Armijo's rule; near the optimum, where the loss falls by less than it is rounded, Hager and Zhang's approximate rule
(2005) goes by slopes.

Letters: D width, C outputs; Q = D + 1, weights with the bias as one more column.
"""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.probing.probes.fitting.penalised_loss import Evaluated, PenalisedLoss
from issl_engine.probing.probes.fitting.preconditioner import Axes, Preconditioner

MEMORY = 20
"""Pairs of steps and changes of the gradient that are remembered, float32."""
DESCENT = 1e-4
"""Share of the decrease that the slope promises, at the least."""
SLOPE_LEFT = 0.8
"""Of the slope at the step's beginning, what may be left at its end, uphill, where the loss is as good as equal."""
ROUNDING = 1e-6
"""Relative; losses so close are as good as equal."""
SMALLEST_STEP = 2.0**-24
BIAS_SHARE = 0.01
"""Of the tolerance, what the biases may use up."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """``gap``: nats that P may be above its minimum (``penalised_loss``); ``iterations``: steps taken."""

    weight_CD: Tensor
    bias_C: Tensor
    loss: float
    gap: float
    iterations: int


def minimise(
    loss: PenalisedLoss, weight_CD: Tensor, bias_C: Tensor, axes: Axes, *, tolerance: float, max_iterations: int
) -> Solution:
    """From the given point (float64) until the gap is at most ``tolerance``, or iterations or float32 are at their
    end: the gap says which."""
    here = loss.at(weight_CD, bias_C, curvature=True)
    assert here.curvature_CC is not None
    memory = _Memory(Preconditioner(axes, here.curvature_CC, loss.decay))
    iterations = 0
    while True:
        if here.weight_gap <= tolerance or iterations == max_iterations:
            here = loss.with_settled_bias(here, BIAS_SHARE * tolerance)
            if here.gap <= tolerance or iterations == max_iterations:
                break
        gradient_CQ = _columns(here.weight_gradient_CD, here.bias_gradient_C)
        step_CQ = memory.direction(gradient_CQ)
        there = _line_search(loss, here, gradient_CQ, step_CQ)
        iterations += 1
        if there is not None:
            memory.add(here, there)
            here = there
        elif memory.is_empty:  # float32 knows no better point
            here = loss.with_settled_bias(here, BIAS_SHARE * tolerance)
            break
        else:
            memory.clear()
    return Solution(
        weight_CD=here.weight_CD, bias_C=here.bias_C, loss=here.loss, gap=here.gap, iterations=iterations
    )  # fmt: skip


def _line_search(loss: PenalisedLoss, here: Evaluated, gradient_CQ: Tensor, step_CQ: Tensor) -> Evaluated | None:
    """None where no step along ``step_CQ`` is better."""
    slope = float((gradient_CQ * step_CQ).sum())
    size = 1.0
    while slope < 0 and size > SMALLEST_STEP:
        there = loss.at(here.weight_CD + size * step_CQ[:, :-1], here.bias_C + size * step_CQ[:, -1])
        left = float((_columns(there.weight_gradient_CD, there.bias_gradient_C) * step_CQ).sum())
        if there.loss <= here.loss + DESCENT * size * slope:
            return there
        if there.loss <= here.loss + ROUNDING * abs(here.loss) and left <= SLOPE_LEFT * -slope:
            return there
        size /= 2
    return None


def _columns(weight_CD: Tensor, bias_C: Tensor) -> Tensor:
    return torch.cat([weight_CD, bias_C[:, None]], dim=1)


class _Memory:
    """The last steps s and changes of the gradient y, and the two-loop recursion over them."""

    def __init__(self, preconditioner: Preconditioner) -> None:
        self._preconditioner = preconditioner
        self._pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=MEMORY)
        self._scale = 1.0

    @property
    def is_empty(self) -> bool:
        return not self._pairs

    def clear(self) -> None:
        self._pairs.clear()
        self._scale = 1.0

    def add(self, before: Evaluated, after: Evaluated) -> None:
        s_CQ = _columns(after.weight_CD - before.weight_CD, after.bias_C - before.bias_C)
        y_CQ = _columns(
            after.weight_gradient_CD - before.weight_gradient_CD, after.bias_gradient_C - before.bias_gradient_C
        )
        product = float((s_CQ * y_CQ).sum())
        if product <= 0:  # by rounding alone: the loss is strictly convex
            return
        self._pairs.append((s_CQ.float(), y_CQ.float(), product))
        self._scale = product / float((y_CQ * self._preconditioner(y_CQ)).sum())

    def direction(self, gradient_CQ: Tensor) -> Tensor:
        """Minus the approximate inverse Hessian times the gradient, float64."""
        left_CQ = gradient_CQ.clone()
        shares = []
        for s_CQ, y_CQ, product in reversed(self._pairs):
            share = float((s_CQ * left_CQ).sum()) / product
            left_CQ -= share * y_CQ
            shares.append(share)
        found_CQ = self._scale * self._preconditioner(left_CQ)
        for (s_CQ, y_CQ, product), share in zip(self._pairs, reversed(shares), strict=True):
            found_CQ += (share - float((y_CQ * found_CQ).sum()) / product) * s_CQ
        return -found_CQ
