"""Functions of a matrix's spectrum whose gradients stay finite where singular values or eigenvalues coincide or vanish.

Letters: N rows, P columns, K = min(N, P) singular values; P eigenvalues of a square matrix. Leading axes hold further
matrices.

torch.linalg checks a decomposition's error flag on the host, so that on a GPU each call waits for the device.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

NUCLEAR_NORM_EPSILON = 1e-4
"""Singular values well below this are taken as 0."""


def nuclear_norm(matrix_NP: Tensor) -> Tensor:
    """Σ_k (√(σ_k² + ε²) − ε) over the singular values of each matrix [..., N, P]; [...], in the matrix's dtype.

    That is the nuclear norm Σ_k σ_k with each σ_k smoothed near 0, where the norm has no gradient: it deviates by at
    most ε = NUCLEAR_NORM_EPSILON per singular value. The gradient U diag(σ / √(σ² + ε²)) Vᵀ divides by no difference of
    singular values, has spectral norm below 1, and is 0 for the zero matrix.
    """
    values_K: Tensor = torch.linalg.svdvals(matrix_NP)
    epsilon = NUCLEAR_NORM_EPSILON
    return ((values_K.square() + epsilon**2).sqrt() - epsilon).sum(-1)


def nuclear_norm_of_equal_rows(rows: int) -> float:
    """``nuclear_norm`` of a matrix whose rows are one unit vector: the one singular value is √rows."""
    return math.sqrt(rows + NUCLEAR_NORM_EPSILON**2) - NUCLEAR_NORM_EPSILON


LOG_EPSILON = 1e-3
"""Below this eigenvalue the logarithm continues along its tangent, so that it and its gradient stay finite."""


def trace_log(matrix_PP: Tensor) -> Tensor:
    """Σ_k f(λ_k) over the eigenvalues of each matrix's symmetric part, [..., P, P] → [...]; f(λ) is ln λ, and for
    λ < ε = LOG_EPSILON its tangent ln ε + (λ − ε) / ε.

    For matrices with no eigenvalue below ε that is ln det. The gradient V f'(λ) Vᵀ divides by no difference of
    eigenvalues.
    """
    return _extended_log(torch.linalg.eigvalsh(_symmetric(matrix_PP))).sum(-1)


def symmetric_log(matrix_PP: Tensor) -> Tensor:
    """V f(λ) Vᵀ, the matrix logarithm of each matrix's symmetric part, with f as for ``trace_log``; [..., P, P].

    Its gradient is V ((VᵀGV) ∘ Γ) Vᵀ with the divided differences Γ_kl = (f(λ_k) − f(λ_l)) / (λ_k − λ_l) of Daleckii
    and Krein (Bhatia 1997, theorem V.3.3), which tend to f'(λ) as eigenvalues meet. There is no second derivative.
    """
    logarithm_PP: Tensor = _SymmetricLog.apply(_symmetric(matrix_PP))  # type: ignore[no-untyped-call]
    return logarithm_PP


class _SymmetricLog(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix_PP: Tensor) -> Tensor:
        values_P, vectors_PP = torch.linalg.eigh(matrix_PP)
        ctx.save_for_backward(values_P, vectors_PP)
        logarithm_PP: Tensor = (vectors_PP * _extended_log(values_P).unsqueeze(-2)) @ vectors_PP.mT
        return logarithm_PP

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        values_P, vectors_PP = ctx.saved_tensors
        inner_PP = vectors_PP.mT @ _symmetric(gradients[0]) @ vectors_PP
        gradient_PP: Tensor = vectors_PP @ (inner_PP * _divided_differences(values_P)) @ vectors_PP.mT
        return gradient_PP


def _symmetric(matrix_PP: Tensor) -> Tensor:
    return (matrix_PP + matrix_PP.mT) / 2


def _extended_log(values_P: Tensor) -> Tensor:
    above_P = values_P.clamp(min=LOG_EPSILON)
    return above_P.log() + (values_P - above_P) / LOG_EPSILON


def _divided_differences(values_P: Tensor) -> Tensor:
    """Γ [..., P, P] of ``_extended_log``."""
    a, b = values_P.unsqueeze(-1), values_P.unsqueeze(-2)
    high_a, high_b = a.clamp(min=LOG_EPSILON), b.clamp(min=LOG_EPSILON)
    # With r = (a − b) / (a + b), ln a − ln b = 2 artanh r: no cancellation, and a series where r is small.
    total = high_a + high_b
    r = (high_a - high_b) / total
    small = r.abs() < 1e-2
    safe = torch.where(small, 0.5, r)
    series = 1 + r.square() / 3 + r.pow(4) / 5 + r.pow(6) / 7
    of_log = torch.where(small, series, safe.atanh() / safe) * 2 / total
    # Where one eigenvalue lies below ε, the slope between them is partly the tangent's.
    difference = a - b
    equal = difference == 0
    share = torch.where(equal, (a >= LOG_EPSILON).to(a.dtype), (high_a - high_b) / torch.where(equal, 1, difference))
    return share * of_log + (1 - share) / LOG_EPSILON
