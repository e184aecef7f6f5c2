"""Some of the images of a split, as many of each class."""

import numpy as np
from numpy.typing import NDArray


def balanced_subset(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """``count`` places, ascending; classes differ by one image at most where each has enough of them."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    # By rank within the class first, so that the classes take turns.
    return np.sort(np.lexsort((labels, rank))[:count])
