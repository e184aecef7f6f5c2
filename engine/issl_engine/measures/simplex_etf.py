"""How close class means are to a simplex equiangular tight frame (ETF), the optimum of the theory.

Classes are those of labels, or equivalence classes: an image and all its views. Letters: C classes, D width.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from issl_engine.measures.checked_features import checked_features, same_features_error, spread
from issl_engine.mistakes import Mistake


def etf_cosine(means_CD: Tensor) -> float:
    """Mean cosine of two class means, centred by their mean; -1/(C - 1) for an ETF.

    Dubois et al. 2022 (arXiv 2209.06235): representations that are optimal for linear probes have centred
    class means that form an ETF; the angles as in Papyan, Han and Donoho 2020, "Prevalence of neural collapse during
    the terminal phase of deep learning training", NC2. Means of equal length always have about this mean cosine, so
    look at ``etf_angle_std``, too. A class at the very centre counts as at right angles to all. Raises Mistake for
    fewer than two classes, and for equal means.
    """
    cosine_CC = _centred_cosines(means_CD)
    C = len(cosine_CC)
    return ((cosine_CC.sum() - cosine_CC.trace()) / (C * (C - 1))).item()


def etf_angle_std(means_CD: Tensor) -> float:
    """Standard deviation of the cosines of two centred class means: 0 where all angles are equal (Papyan et al. 2020,
    NC2, equiangularity). Raises Mistake as ``etf_cosine`` does."""
    cosine_CC = _centred_cosines(means_CD)
    above_diagonal = torch.ones_like(cosine_CC, dtype=torch.bool).triu(1)
    return cosine_CC[above_diagonal].std(correction=0).item()


def etf_distance(means_CD: Tensor) -> float:
    """Frobenius distance of the centred means' Gram matrix from an ETF's, each at norm 1: 0 for an ETF, below √2.

    ‖G/‖G‖ − E/‖E‖‖ with E = I − 1·1ᵀ/C, whose norm is √(C − 1) (Papyan et al. 2020, NC2: equal lengths and angles at
    once). An ETF of C classes needs D ≥ C − 1. Raises Mistake for fewer than two classes, and for equal means.
    """
    centred_CD = _centred(means_CD)
    gram_CC = centred_CD @ centred_CD.T
    C = len(gram_CC)
    etf_CC = torch.eye(C, dtype=gram_CC.dtype, device=gram_CC.device) - 1 / C
    return float(torch.linalg.matrix_norm(gram_CC / torch.linalg.matrix_norm(gram_CC) - etf_CC / (C - 1) ** 0.5))


def optimal_etf_cosine(num_classes: int) -> float:
    """-1/(C - 1): the cosine of any two of an ETF's C vectors."""
    return -1 / (num_classes - 1)


def _centred(means_CD: Tensor) -> Tensor:
    means_CD = checked_features(means_CD)
    if len(means_CD) < 2:
        raise Mistake("classes are compared with one another, and there is only one; give images of two or more")
    if spread(means_CD) == 0:
        raise same_features_error()
    return means_CD - means_CD.mean(0)


def _centred_cosines(means_CD: Tensor) -> Tensor:
    unit_CD = F.normalize(_centred(means_CD), dim=1)
    return unit_CD @ unit_CD.T
