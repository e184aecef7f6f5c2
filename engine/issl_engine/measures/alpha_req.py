"""α-ReQ: how fast the covariance's spectrum falls.

Letters: N images, D width of the representation, K = min(N, D), R ranks that are fitted.
"""

import torch
from torch import Tensor

from issl_engine.measures.checked_features import checked_features, same_features_error, spread
from issl_engine.measures.spectrum import covariance_eigenvalues
from issl_engine.mistakes import Mistake

NOISE = 1e-10
"""Eigenvalues below this share of the largest are rounding of fp32 features, and are not fitted."""
LAST_RANK = 100
"""The spectrum's tail is that of the sample, not of the representation, and is left out."""


def alpha_req(x_ND: Tensor, *, last_rank: int = LAST_RANK) -> float:
    """The exponent α of λ_j ∝ j^-α, fitted to the eigenvalues of the features' covariance.

    Agrawal et al. 2022, "α-ReQ: Assessing Representation Quality in Self-Supervised Learning by measuring eigenspectrum
    decay"; they find the best linear probes near α = 1. 0 is a flat spectrum, and the larger α, the fewer
    directions matter. Least squares of ln λ_j over ln j for j = 1 ... ``last_rank``, with the weights 1/j that Stringer
    et al. 2019 ("High-dimensional geometry of population responses in visual cortex") took, so that the many last ranks
    do not decide. Raises Mistake where fewer than two eigenvalues stand out from rounding.
    """
    x_ND = checked_features(x_ND)
    if spread(x_ND) == 0:
        raise same_features_error()
    return power_law_exponent(covariance_eigenvalues(x_ND)[:last_rank])


def power_law_exponent(eigenvalues_K: Tensor) -> float:
    """The exponent of ``alpha_req``, for eigenvalues [K] that fall."""
    fitted_R = eigenvalues_K[eigenvalues_K > NOISE * eigenvalues_K[0]]
    if len(fitted_R) < 2:
        raise Mistake("the features vary in one direction only, and a power law needs two or more")
    rank_R = torch.arange(1, len(fitted_R) + 1, dtype=fitted_R.dtype, device=fitted_R.device)
    x_R, y_R, weight_R = rank_R.log(), fitted_R.log(), 1 / rank_R
    x_R, y_R = (values - (weight_R * values).sum() / weight_R.sum() for values in (x_R, y_R))
    return -((weight_R * x_R * y_R).sum() / (weight_R * x_R.square()).sum()).item()
