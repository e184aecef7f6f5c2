"""Functions of a matrix's spectrum whose gradients stay finite where singular values or eigenvalues coincide or vanish.

Letters: N rows, P columns, K = min(N, P) singular values. Leading axes hold further matrices.

torch.linalg checks a decomposition's error flag on the host, so that on a GPU each call waits for the device.
"""

import torch
from torch import Tensor

NUCLEAR_NORM_EPSILON = 1e-4
"""Singular values well below this are taken as 0."""


def nuclear_norm(matrix_NP: Tensor) -> Tensor:
    """Σ_k (√(σ_k² + ε²) − ε) over the singular values of each matrix [..., N, P]; [...], in the matrix's dtype.

    That is the nuclear norm Σ_k σ_k with each σ_k smoothed near 0, where the norm has no gradient: it deviates by at
    most ε = NUCLEAR_NORM_EPSILON a singular value. The gradient U diag(σ / √(σ² + ε²)) Vᵀ divides by no difference of
    singular values, has spectral norm below 1, and is 0 for the zero matrix.
    """
    values_K = torch.linalg.svdvals(matrix_NP)
    epsilon = NUCLEAR_NORM_EPSILON
    return ((values_K.square() + epsilon**2).sqrt() - epsilon).sum(-1)


def nuclear_norm_of_equal_rows(rows: int) -> float:
    """``nuclear_norm`` of a matrix whose rows are one unit vector: the one singular value is √rows."""
    return (rows + NUCLEAR_NORM_EPSILON**2) ** 0.5 - NUCLEAR_NORM_EPSILON
