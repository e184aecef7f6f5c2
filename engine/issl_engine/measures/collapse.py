"""How far representations have collapsed: pure functions of features, computed in fp64.

Letters: N images, D width of the representation; x and y are two views of the same images.
"""

from torch import Tensor
from torch.nn import functional as F

from issl_engine.measures.checked_features import checked_features
from issl_engine.measures.spectrum import dimensions_in_use, squared_singular_values
from issl_engine.mistakes import Mistake

PAIR_BLOCK = 2**22
"""Largest block of pairwise distances (32 MiB)."""


def rank_me(x_ND: Tensor) -> float:
    """Effective rank of the features, between 1 and min(N, D); low means dimensional collapse.

    exp of the entropy (nats) of the singular values over their sum (Roy and Vetterli 2007, "The effective
    rank: a measure of effective dimensionality"); on representations, RankMe (Garrido et al. 2023, eq. 1).
    Features are not centred. Raises Mistake for features that are all zero, which have no rank.
    """
    singular_K = squared_singular_values(x_ND).sqrt()
    if singular_K[0] == 0:
        raise Mistake("the features are all zero and have no effective rank; probe another checkpoint")
    return dimensions_in_use(singular_K)


def feature_std(x_ND: Tensor) -> float:
    """Mean over dimensions of the standard deviation of the features on the unit sphere, times sqrt(D).

    About 1 for features spread evenly over the sphere, 0 for complete collapse. Chen and He 2021, "Exploring
    simple Siamese representation learning", figure 2, without the factor.
    """
    unit_ND = F.normalize(checked_features(x_ND), dim=1)
    return float(unit_ND.std(0, correction=0).mean().item() * x_ND.shape[1] ** 0.5)


def alignment(x_ND: Tensor, y_ND: Tensor) -> float:
    """Mean squared distance on the unit sphere between two views of an image: 0 at best, 2 for unrelated
    ones.

    Wang and Isola 2020, "Understanding contrastive representation learning through alignment and uniformity
    on the hypersphere", with alpha = 2. Raises Mistake for differing shapes.
    """
    if x_ND.shape != y_ND.shape:
        raise Mistake(
            "alignment compares two views of the same images, so their features must have one shape, not "
            f"{tuple(x_ND.shape)} and {tuple(y_ND.shape)}"
        )
    x_ND, y_ND = F.normalize(checked_features(x_ND), dim=1), F.normalize(checked_features(y_ND), dim=1)
    return (x_ND - y_ND).square().sum(1).mean().item()


def uniformity(x_ND: Tensor) -> float:
    """log of the mean of exp(-2 · squared distance) over pairs of images on the unit sphere.

    0 for complete collapse, near -4 for features spread evenly in many dimensions (Wang and Isola 2020, with
    t = 2). Distances are computed in blocks of rows, never all N x N. Raises Mistake for a single image.
    """
    unit_ND = F.normalize(checked_features(x_ND), dim=1)
    N = len(unit_ND)
    if N < 2:
        raise Mistake("uniformity compares pairs of images, and there is only one; give two or more")
    total = unit_ND.new_zeros(())
    step = max(1, PAIR_BLOCK // N)
    for start in range(0, N, step):
        rows_nD = unit_ND[start : start + step]
        # On the sphere |x - y|² = 2 - 2 x·y; a rounding error can make it slightly negative.
        distance_nN = (2 - 2 * (rows_nD @ unit_ND.T)).clamp(min=0)
        total += (-2 * distance_nN).exp().sum()
    # Of the N² pairs, the N of an image with itself add exp(0) each; what is left holds every pair twice.
    itself = (-2 * (2 - 2 * unit_ND.square().sum(1)).clamp(min=0)).exp().sum()
    return ((total - itself) / (N * (N - 1))).log().item()
