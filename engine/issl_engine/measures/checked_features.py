"""Checks that every measure makes of its features: the right axes, finite numbers; and the step to fp64.

Letters: N images, V views of each, D width of the representation, C classes.
"""

import torch
from torch import Tensor

from issl_engine.mistakes import Mistake


def checked_features(x_ND: Tensor) -> Tensor:
    """The features [N, D] in fp64, without gradient. Raises Mistake for another shape or infinite numbers."""
    if x_ND.ndim != 2 or x_ND.numel() == 0:
        raise Mistake(f"features must have the shape [images, dimensions], not {tuple(x_ND.shape)}")
    return _finite(x_ND)


def checked_views(z_NVD: Tensor) -> Tensor:
    """The features [N, V, D] in fp64, without gradient.

    Raises Mistake for another shape, infinite numbers, or fewer than two images or views.
    """
    if z_NVD.ndim != 3 or z_NVD.numel() == 0:
        raise Mistake(f"features of views must have the shape [images, views, dimensions], not {tuple(z_NVD.shape)}")
    if z_NVD.shape[0] < 2 or z_NVD.shape[1] < 2:
        raise Mistake(
            f"views are compared within and between images, and here are {z_NVD.shape[0]} images with "
            f"{z_NVD.shape[1]} views each; give two or more of both"
        )
    return _finite(z_NVD)


def class_means(x_ND: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """(means [C, D], images of each [C]) of the classes that are present, in the order of their labels; fp64.

    ``labels_N``: int64. Raises Mistake for fewer than two classes.
    """
    x_ND = checked_features(x_ND)
    if labels_N.shape != x_ND.shape[:1]:
        raise Mistake(f"{len(x_ND)} images need as many labels, not labels of the shape {tuple(labels_N.shape)}")
    _, place_N, count_C = labels_N.unique(return_inverse=True, return_counts=True)
    if len(count_C) < 2:
        raise Mistake("classes are compared with one another, and there is only one; give images of two or more")
    sums_CD = x_ND.new_zeros(len(count_C), x_ND.shape[1]).index_add_(0, place_N, x_ND)
    return sums_CD / count_C[:, None], count_C


def _finite(features: Tensor) -> Tensor:
    if not features.isfinite().all():
        raise Mistake("the features hold NaN or infinite numbers; probe another checkpoint")
    return features.detach().double()


def same_features_error() -> Mistake:
    """The error of measures that have no value for a constant representation."""
    return Mistake(
        "the features of all images are equal, so nothing is spread and this measure has no value; the representation "
        "has collapsed to a point"
    )


def spread(x_ND: Tensor) -> Tensor:
    """Mean squared distance from the mean, a scalar; 0 where all rows are equal up to rounding in fp32."""
    centred_ND = x_ND - x_ND.mean(0)
    value = centred_ND.square().sum(1).mean()
    size = x_ND.square().sum(1).mean()
    # A network's constant output still differs in its last bits: sums in other orders, of other batches.
    return torch.where(value > ROUNDING * size, value, 0.0)


ROUNDING = 1e-11
"""Share of the mean square that fp32's rounding explains: (a few units in the last place)²."""
