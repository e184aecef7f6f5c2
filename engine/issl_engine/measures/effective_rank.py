"""Effective rank of the covariance: in how many directions features vary.

Letters: N images, D width of the representation.
"""

from torch import Tensor

from issl_engine.measures.checked_features import checked_features, same_features_error, spread
from issl_engine.measures.spectrum import covariance_eigenvalues, dimensions_in_use


def effective_rank(x_ND: Tensor) -> float:
    """exp of the entropy (nats) of the covariance's eigenvalues over their sum, between 1 and min(N - 1, D).

    Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", of the covariance
    matrix, whose singular values its eigenvalues are. Unlike RankMe it sees centred features, so that a common offset
    counts for nothing, and variances instead of standard deviations, so that weak directions count less. Raises
    Mistake for features that are all equal.
    """
    x_ND = checked_features(x_ND)
    if spread(x_ND) == 0:
        raise same_features_error()
    return dimensions_in_use(covariance_eigenvalues(x_ND))


def largest_effective_rank(num_images: int, dim: int) -> int:
    """The value of features that are spread alike in all directions: min(N - 1, D), since centring takes one."""
    return min(num_images - 1, dim)
