"""A share of the labelled images, the same for every encoder.

Letters: N images.
"""

import numpy as np
from numpy.typing import NDArray

FEWEST_OF_A_CLASS = 2
"""One to fit on and one to choose by."""


def label_share(labels_N: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Places of ``share`` of each class's images, rounded, two at least, ascending; drawn with the seed.

    Raises ValueError for a class with a single image.
    """
    generator = np.random.default_rng(seed)
    taken = []
    for label in np.unique(labels_N):
        members = np.flatnonzero(labels_N == label)
        if len(members) < FEWEST_OF_A_CLASS:
            raise ValueError(
                f"class {label} has a single training image, and fine-tuning needs two, one to fit on and one to "
                "choose its learning rate by; add images, raise evaluation.max_train_images, or leave the class out"
            )
        count = max(FEWEST_OF_A_CLASS, round(share * len(members)))
        taken.append(generator.permutation(members)[:count])
    return np.sort(np.concatenate(taken))
