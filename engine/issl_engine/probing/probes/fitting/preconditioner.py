"""An approximate inverse of a penalised likelihood's Hessian: a Kronecker product, inverted in its eigenbasis.

The Hessian is the mean over images of (second derivatives by the outputs) ⊗ (x x') + λ. Here the mean of the product is
taken to be the product of the means, A ⊗ G, as in K-FAC (Martens and Grosse 2015, arXiv 1503.05671). The penalty does
not change when features are rotated, so in the eigenvectors of A and G all of it is diagonal: 1 / (a_c g_d + λ).

Letters: N images, D width, P principal axes of the features, C outputs; b images of a block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.probing.probes.fitting.normalised_blocks import Blocks

ROWS_PER_AXIS = 8
"""Images of which G is made, for each feature: an approximation is enough."""
SMALLEST = 1e-6
"""Of the largest second derivative: below it a bias would be moved too far."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Eigenvectors of G [d, p] and its eigenvalues [p], float64; G is zero across them."""

    basis_DP: Tensor
    spread_P: Tensor


def principal_axes(blocks: Blocks, num_images: int, width: int) -> Axes:
    """One pass: of evenly spaced images where there are many, of XX' instead of X'X where there are few."""
    stride = max(1, num_images // (ROWS_PER_AXIS * width))
    if num_images < width:
        x_ND = torch.cat([x_bD for _, x_bD in blocks()]).double()
        values_P, vectors_NP = torch.linalg.eigh(x_ND @ x_ND.T / num_images)
        kept_P = values_P > 1e-9 * values_P[-1].clamp(min=1e-30)
        spread_P = values_P[kept_P]
        basis_DP = x_ND.T @ (vectors_NP[:, kept_P] / (spread_P * num_images).sqrt())
        return Axes(basis_DP=basis_DP, spread_P=spread_P)
    gram_DD, count = torch.zeros(()), 0
    for _, x_bD in blocks():
        some_bD = x_bD[::stride]
        gram_DD = gram_DD.to(x_bD.device, torch.float64) + (some_bD.T @ some_bD).double()
        count += len(some_bD)
    spread_P, basis_DP = torch.linalg.eigh(gram_DD / count)
    return Axes(basis_DP=basis_DP, spread_P=spread_P.clamp(min=0))


class Preconditioner:
    """(A ⊗ G + λ)^-1 on weights and A^-1 on biases; ``curvature_CC`` is A."""

    def __init__(self, axes: Axes, curvature_CC: Tensor, decay: float) -> None:
        self.axes, self.decay = axes, decay
        values_C, self.vectors_CC = torch.linalg.eigh(curvature_CC)
        values_C = values_C.clamp(min=0)
        self.inverse_CP = 1 / (values_C[:, None] * axes.spread_P + decay)
        self.bias_inverse_C = 1 / values_C.clamp(min=SMALLEST * float(values_C.max()) + 1e-30)

    def __call__(self, rows_CQ: Tensor) -> Tensor:
        """``rows_CQ`` are weights [c, d] with the bias as one more column, float64."""
        turned_CQ = self.vectors_CC.T @ rows_CQ
        weight_CD, bias_C = turned_CQ[:, :-1], turned_CQ[:, -1]
        along_CP = weight_CD @ self.axes.basis_DP
        scaled_CD = weight_CD / self.decay + (along_CP * (self.inverse_CP - 1 / self.decay)) @ self.axes.basis_DP.T
        found_CQ: Tensor = self.vectors_CC @ torch.cat([scaled_CD, (bias_C * self.bias_inverse_C)[:, None]], dim=1)
        return found_CQ
