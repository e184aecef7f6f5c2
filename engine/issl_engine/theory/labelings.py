"""Invariant tasks: labelings that are constant on each equivalence class, and how many a linear probe can solve.

Letters: C classes, L labelings, d dimensions, N images.
"""

import math

import torch
from torch import Tensor

MOST_CLASSES = 10
"""Most classes of which every binary labeling is taken: 511 of 10 classes."""


def binary_labelings(num_classes: int, most: int, seed: int) -> Tensor:
    """Labels bool [L, C]: every way to part the classes in two, or ``most`` random ones where there are more.

    Class 0 is always false, since a labeling and its opposite are one task; no labeling is constant. With more than
    MOST_CLASSES classes the labelings are drawn, each class by a fair coin, without repeats.
    """
    every = 2 ** (num_classes - 1) - 1
    if every <= most and num_classes <= MOST_CLASSES:
        codes = torch.arange(1, every + 1)
        rest = (codes[:, None] >> torch.arange(num_classes - 1)[None]) & 1
        return torch.nn.functional.pad(rest, (1, 0)).bool()
    generator = torch.Generator().manual_seed(seed)
    drawn: dict[tuple[bool, ...], None] = {}
    while len(drawn) < min(most, every):
        labels = torch.rand(num_classes, generator=generator) < 0.5
        labels = labels ^ labels[0]
        if labels.any():
            drawn.setdefault(tuple(labels.tolist()))
    return torch.tensor(list(drawn))


def labels_of_images(labelings_LC: Tensor, class_N: Tensor) -> Tensor:
    """Labels bool [L, N] of images by their classes [N]: equal classes have equal labels, so tasks are invariant."""
    return labelings_LC[:, class_N]


def separable_dichotomies(num_classes: int, dim: int) -> int:
    """The most of the 2^C labelings that hyperplanes can make of C points in d dimensions (Cover 1965, theorem 1).

    Reached by points in general position, and all of them from d = C - 1 on.
    """
    return 2 * sum(math.comb(num_classes - 1, k) for k in range(min(dim, num_classes - 1) + 1))


def least_worst_error(num_classes: int, dim: int) -> float:
    """A floor under the worst labeling's error (a share of the images; classes equally large) of linear probes on any
    representation that is constant on classes.

    Some labeling differs in r classes from all that hyperplanes can make, as long as those, each with all labelings
    that differ from it in fewer than r classes, are fewer than 2^C. So the floor is at least 1/C below d = C - 1, and 0
    from there on.
    """
    made, ball = separable_dichotomies(num_classes, dim), 1
    distance = 0
    while made * ball < 2**num_classes:
        distance += 1
        ball += math.comb(num_classes, distance)
    return distance / num_classes


def least_mean_error(num_classes: int, dim: int) -> float:
    """A floor under the error averaged over all binary labelings but the constant ones: a labeling that no hyperplane
    makes has at least one class wrong."""
    every: int = 2**num_classes
    return (every - separable_dichotomies(num_classes, dim)) / (every - 2) / num_classes
