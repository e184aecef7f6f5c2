"""How many equivalence classes the augmentations leave, estimated from views of a sample of images.

Two images are equivalent if they can give the same view, or if a chain of such images joins them: the classes are the
connected components of that graph (Dubois et al. 2022, arXiv 2209.06235). Here views are never equal to the last
bit, so two images are joined if a view of one is as near to a view of the other as near views of *one* image are.
The threshold is the quantile q of the distances between two views of an image; q = 1 - 0.05^(1 / V^2) makes two images
whose views are of one distribution, with V^2 independent pairs of them, be joined with a probability of 95 %.

Pixels and features also join images by accident. With labels, and augmentations that preserve them, images of
different labels are never equivalent, so the share a of their pairs that is joined measures the accidents. Of the pairs
with one label a share b is joined; (b - a) / (0.95 - a) of them are equivalent, and C is estimated as the inverse of
the probability that two images are equivalent (Simpson's index): right for classes of one size, too low for others.
Where b does not clearly exceed a, the sample shows no equivalent images, and C is taken to be N.

Without labels accidents cannot be measured: C is the number S of components, with those that the sample missed added
by Chao's estimator (Chao 1984), S + f1 (f1 - 1) / (2 (f2 + 1)), of which f1 hold one image and f2 two.

Letters: n sampled images of N; V views of each; D width of a view's features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

JOINED = 0.95
"""Probability with which two images of one class are joined."""
EXACT = "donot_use_mm_for_euclid_dist"
"""Mode of torch.cdist: differences, since with products equal views have distances above zero."""
BLOCK_IMAGES = 16
"""Images whose distances to all views are in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class ClassEstimate:
    """The number of equivalence classes. ``low`` and ``high`` are bounds, ``estimate`` lies between them."""

    estimate: int
    low: int
    """The labels, since label-preserving augmentations never join two; without labels the components of the sample."""
    high: int
    """All images: no two of them are equivalent."""
    num_images: int
    num_sampled: int
    views_per_image: int
    seen: int
    """Components of the sample."""
    joined_one_label: float | None
    """Share of the pairs with one label that are joined; None without labels."""
    joined_two_labels: float | None
    """Share of the pairs with different labels that are joined: by accident, or the augmentations change labels."""
    evidence: bool
    """Whether pairs of one label are joined more often than by accident (by more than two standard errors). Without
    it ``estimate`` is ``high``. True without labels, where it cannot be judged."""


def estimate_classes(x_nVD: Tensor, labels_n: Tensor | None, *, num_images: int) -> ClassEstimate:
    """The classes of ``num_images`` images, estimated from features [n, V, D] of V >= 2 views per sampled image.

    ``labels_n``: int64 [n]; None, or equal labels, if there are none.
    """
    num_sampled, views = x_nVD.shape[:2]
    joined_nn = nearest_views(x_nVD) <= join_threshold(x_nVD)
    joined_nn.fill_diagonal_(False)
    sizes = torch.bincount(connected_components(joined_nn))
    one: float | None = None
    two: float | None = None
    if labels_n is None or len(labels_n.unique()) < 2:
        low, evidence = len(sizes), True
        found = _with_unseen(sizes) if num_sampled < num_images else float(low)
    else:
        low = len(labels_n.unique())
        one, two, found, evidence = _by_labels(joined_nn, labels_n, num_images)
    return ClassEstimate(
        estimate=max(low, min(num_images, round(found) if evidence else num_images)), low=low, high=num_images,
        num_images=num_images, num_sampled=num_sampled, views_per_image=views, seen=len(sizes),
        joined_one_label=one, joined_two_labels=two, evidence=evidence,
    )  # fmt: skip


def _with_unseen(sizes: Tensor) -> float:
    """Chao's estimate of the number of classes, from the sizes of those seen."""
    once, twice = int((sizes == 1).sum()), int((sizes == 2).sum())
    return len(sizes) + once * (once - 1) / (2 * (twice + 1))


def _by_labels(joined_nn: Tensor, labels_n: Tensor, num_images: int) -> tuple[float, float, float, bool]:
    """(share joined of one label, of two labels, estimated classes, whether the first is clearly the larger).

    A share's standard error is taken over as many independent pairs as there are images, since pairs share images.
    """
    upper_nn = torch.ones_like(joined_nn).triu(1)
    same_nn = (labels_n[:, None] == labels_n[None]) & upper_nn
    other_nn = ~same_nn & upper_nn
    if not same_nn.any():
        return 0.0, 0.0, 0.0, False
    one = float(joined_nn[same_nn].double().mean())
    two = float(joined_nn[other_nn].double().mean()) if other_nn.any() else 0.0
    error = (max(one * (1 - one), two * (1 - two)) / len(labels_n)) ** 0.5
    if two >= JOINED or one - two <= 2 * error:
        return one, two, 0.0, False
    equivalent = min(1.0, (one - two) / (JOINED - two)) * float(same_nn.sum()) / float(upper_nn.sum())
    # Of N images in C classes of one size, (N / C - 1) / (N - 1) of the pairs are equivalent.
    return one, two, num_images / (1 + equivalent * (num_images - 1)), True


def join_threshold(x_nVD: Tensor) -> float:
    """The distance up to which two views join their images."""
    views = x_nVD.shape[1]
    within_nVV = torch.cdist(x_nVD, x_nVD, compute_mode=EXACT)
    first, second = torch.triu_indices(views, views, offset=1)
    quantile = 1 - (1 - JOINED) ** (1 / views**2)
    distances = within_nVV[:, first, second].flatten().sort().values
    return float(distances[min(len(distances) - 1, int(quantile * len(distances)))])


def nearest_views(x_nVD: Tensor) -> Tensor:
    """The distance of the two nearest views of each pair of images [n, n]."""
    n, views, width = x_nVD.shape
    every_RD = x_nVD.reshape(n * views, width)
    rows = []
    for block_bVD in x_nVD.split(BLOCK_IMAGES):
        distance_bVR = torch.cdist(block_bVD.reshape(-1, width), every_RD, compute_mode=EXACT)
        rows.append(distance_bVR.reshape(len(block_bVD), views, n, views).amin(dim=(1, 3)))
    return torch.cat(rows)


def connected_components(joined_nn: Tensor) -> Tensor:
    """The component of each image, int64 [n], numbered from 0; ``joined_nn`` bool, symmetric."""
    label_n = torch.arange(len(joined_nn))
    far = len(joined_nn)
    while True:
        # Each image takes the smallest number among itself and those that it is joined to.
        neighbour_n = torch.where(joined_nn, label_n[None], far).amin(1)
        smaller_n = torch.minimum(label_n, neighbour_n)
        if torch.equal(smaller_n, label_n):
            numbered_n: Tensor = label_n.unique(return_inverse=True)[1]
            return numbered_n
        label_n = smaller_n
