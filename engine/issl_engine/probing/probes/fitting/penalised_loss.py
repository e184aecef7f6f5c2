"""A penalised likelihood over blocks of features, and how far from its optimum a point can be.

P(W, b) = (1/N) sum_i loss_i(W x_i + b) + (λ/2) |W|², in nats per image; the biases b are free of the penalty.

**The bound.** Each loss is convex in (W, b), so P is λ-strongly convex in W. For the optimum (W*, b*) therefore

    P(W, b) - P(W*, b*) <= <g_W, W - W*> - (λ/2) |W - W*|² + <g_b, b - b*> <= |g_W|² / (2λ) + <g_b, b - b*>,

with the gradients g at (W, b). Where g_b is zero, the first term is all, and it is the duality gap: the labels that the
model expects, p_i, are then feasible for Fenchel's dual max_p (1/N) sum_i H(p_i) - (λ/2) |V(p)|², with
V(p) = -(1/(λN)) sum_i (p_i - y_i) x_i', and P - D(p) = (λ/2) |W - V(p)|² = |g_W|² / (2λ). (H is the entropy: the
conjugate of the loss, at y_i - p_i.) So the biases are brought to zero gradient by Newton's method. What rounding
leaves of g_b enters as |g_b| (1 + |b|), that is, supposing that the biases are off by no more than their own size and
one nat.

Letters: N images, D width, C outputs; b images of a block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.probing.probes.fitting.likelihoods import Likelihood
from issl_engine.probing.probes.fitting.normalised_blocks import Blocks


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """P and its gradient at one point; tensors are float64."""

    weight_CD: Tensor
    bias_C: Tensor
    loss: float
    weight_gradient_CD: Tensor
    bias_gradient_C: Tensor
    decay: float
    curvature_CC: Tensor | None
    """Mean second derivatives by the outputs, where they were asked for."""

    @property
    def weight_gap(self) -> float:
        """|g_W|² / (2λ), in nats."""
        return float(self.weight_gradient_CD.square().sum()) / (2 * self.decay)

    @property
    def bias_gap(self) -> float:
        """|g_b| (1 + |b|), in nats."""
        centred_C = self.bias_C - self.bias_C.mean()
        return float(self.bias_gradient_C.norm() * (1 + centred_C.norm()))

    @property
    def gap(self) -> float:
        """P is at most so much above its minimum, in nats."""
        return self.weight_gap + self.bias_gap


class PenalisedLoss:
    """P for one λ (``decay``). Products are float32 within a block of images, and added in float64 over blocks."""

    def __init__(self, blocks: Blocks, likelihood: Likelihood, *, decay: float, num_images: int) -> None:
        self.blocks, self.likelihood, self.decay, self.num_images = blocks, likelihood, decay, num_images

    def at(self, weight_CD: Tensor, bias_C: Tensor, *, curvature: bool = False) -> Evaluated:
        """One pass over the features."""
        rounded_CD, rounded_C = weight_CD.float(), bias_C.float()
        loss = torch.zeros((), dtype=torch.float64, device=weight_CD.device)
        gradient_CD, gradient_C = torch.zeros_like(weight_CD), torch.zeros_like(bias_C)
        curvature_CC = torch.zeros(len(bias_C), len(bias_C)).to(weight_CD) if curvature else None
        for part, x_bD in self.blocks():
            outputs_bC = torch.addmm(rounded_C, x_bD, rounded_CD.T)
            of_block, residual_bC, expected_bC = self.likelihood.terms(outputs_bC, part)
            loss += of_block
            gradient_CD += (residual_bC.T @ x_bD).double()
            gradient_C += residual_bC.double().sum(0)
            if curvature_CC is not None:
                curvature_CC += self.likelihood.curvature(expected_bC, part)
        N = self.num_images
        return Evaluated(
            weight_CD=weight_CD,
            bias_C=bias_C,
            loss=float(loss) / N + self.decay / 2 * float(weight_CD.square().sum()),
            weight_gradient_CD=gradient_CD / N + self.decay * weight_CD,
            bias_gradient_C=gradient_C / N,
            decay=self.decay,
            curvature_CC=None if curvature_CC is None else curvature_CC / N,
        )

    def with_settled_bias(self, here: Evaluated, tolerance: float, *, steps: int = 8) -> Evaluated:
        """``here`` after Newton's steps on the biases alone, until their part of the gap is below ``tolerance``."""
        for _ in range(steps):
            if here.bias_gap <= tolerance:
                break
            if here.curvature_CC is None:
                here = self.at(here.weight_CD, here.bias_C, curvature=True)
            assert here.curvature_CC is not None
            inverse_CC = torch.linalg.pinv(here.curvature_CC, rtol=1e-12, hermitian=True)
            there = self.at(here.weight_CD, here.bias_C - inverse_CC @ here.bias_gradient_C, curvature=True)
            if not there.bias_gap < here.bias_gap:
                break
            here = there
        return here
