"""Spectra of features, and how many directions they fill.

Letters: N images, D width of the representation, K = min(N, D) singular values.
"""

import torch
from torch import Tensor

from issl_engine.measures.checked_features import checked_features
from issl_engine.mistakes import Mistake


def squared_singular_values(x_ND: Tensor) -> Tensor:
    """Squares of the singular values [K] of the matrix as it is, falling, fp64.

    They are the eigenvalues of its smaller Gram matrix, x xᵀ or xᵀ x, which costs N·D·K and K³ instead of an SVD of the
    whole. What lies below 1e-8 of the largest singular value is rounding. Raises Mistake as checked_features does.
    """
    x_ND = checked_features(x_ND)
    gram_KK = x_ND @ x_ND.T if len(x_ND) <= x_ND.shape[1] else x_ND.T @ x_ND
    rising_K: Tensor = torch.linalg.eigvalsh(gram_KK)
    return rising_K.flip(0).clamp(min=0)


def covariance_eigenvalues(x_ND: Tensor) -> Tensor:
    """Eigenvalues [K] of the covariance of the centred features (divisor N), falling, fp64."""
    x_ND = checked_features(x_ND)
    return squared_singular_values(x_ND - x_ND.mean(0)) / len(x_ND)


def singular_spectrum(x_ND: Tensor) -> Tensor:
    """Singular values [K] of the matrix as it is, falling, over their sum. Raises Mistake where all are zero."""
    singular_K = squared_singular_values(x_ND).sqrt()
    if singular_K[0] == 0:
        raise Mistake("the matrix is all zero and has no spectrum; probe another checkpoint")
    return singular_K / singular_K.sum()


def dimensions_in_use(values_K: Tensor) -> float:
    """exp of the entropy (nats) of non-negative numbers over their sum: their number where all are equal, 1 where one
    holds everything (Roy and Vetterli 2007)."""
    return float(torch.special.entr(values_K / values_K.sum()).sum().exp())
