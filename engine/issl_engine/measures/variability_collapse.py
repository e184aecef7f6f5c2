"""Variability collapse index: what a linear probe cannot explain of the features' spread.

Letters: N images, D width of the representation, C classes, R = min(N, D).
"""

import torch
from torch import Tensor

from issl_engine.measures.checked_features import checked_features, class_means, same_features_error, spread
from issl_engine.mistakes import Mistake

RANK_TOLERANCE = 1e-10
"""Eigenvalues below this share of the largest count as zero."""


def variability_collapse(x_ND: Tensor, labels_N: Tensor) -> float:
    """VCI = 1 − tr(S_T⁺ S_B) / rank(S_B), between 0 (no spread within classes) and 1 (classes explain nothing).

    S_T is the covariance of all features, S_B that of the class means, each class with the weight of its images. Xu and
    Liu 2023, "Quantifying the Variability Collapse of Neural Networks" (arXiv 2306.03440); it does not
    change under an invertible linear map of the features. With as many dimensions as images every class can be
    separated and the value is 0 whatever the features, so N must be well above D. Raises Mistake for fewer than two
    classes, features that are all equal, and N ≤ D.
    """
    x_ND = checked_features(x_ND)
    N, D = x_ND.shape
    if N <= D:
        raise Mistake(
            f"the variability collapse index of {N} images in {D} dimensions is 0 whatever the features; give more "
            "images than dimensions"
        )
    if spread(x_ND) == 0:
        raise same_features_error()
    means_CD, count_C = class_means(x_ND - x_ND.mean(0), labels_N)
    centred_ND = x_ND - x_ND.mean(0)
    values_D, vectors_DD = torch.linalg.eigh(centred_ND.T @ centred_ND / N)
    kept = values_D > RANK_TOLERANCE * values_D[-1]
    whitened_CR = means_CD @ vectors_DD[:, kept] / values_D[kept].sqrt()
    share_C = count_C / N
    trace = (share_C * whitened_CR.square().sum(1)).sum()
    between_KK = (share_C.sqrt()[:, None] * whitened_CR).T
    squares = torch.linalg.svdvals(between_KK).square()
    rank = int((squares > RANK_TOLERANCE * squares[0]).sum()) if squares[0] > 0 else 1
    return float(1 - trace / rank)
