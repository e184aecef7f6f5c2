"""Invariance: whether the views of one image are closer than views of different images.

Letters: N images, V views of each, D width of the representation.
"""

from torch import Tensor

from issl_engine.measures.checked_features import checked_views, same_features_error, spread


def invariance(z_NVD: Tensor) -> float:
    """Mean squared distance of two views of one image over that of two views of different images.

    0 for a representation that ignores the augmentations, as the optimum of Dubois et al. 2022 (arXiv 2209.06235)
    does: its second condition; 1 where an image's views are as far apart as different images. Raises Mistake
    for features that are all equal, and for fewer than two images or views.
    """
    z_NVD = checked_views(z_NVD)
    N, V, _ = z_NVD.shape
    if spread(z_NVD.flatten(0, 1)) == 0:
        raise same_features_error()
    # Over the pairs of M vectors, the squared distances add up to M times the squared distances from their mean.
    within = V * (z_NVD - z_NVD.mean(1, keepdim=True)).square().sum()
    everywhere = N * V * (z_NVD - z_NVD.mean((0, 1))).square().sum()
    pairs_within = N * V * (V - 1) / 2
    pairs_between = N * V * (N * V - 1) / 2 - pairs_within
    between = (everywhere - within) / pairs_between
    return (within / pairs_within / between).item()
