"""The labelled images of fine-tuning with few labels: those of the first draw of the few-label probes, too.

Letters: N images.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from issl_engine.mistakes import Mistake
from issl_engine.probing.probes.fitting.label_subsets import share_of_each_class, shots_of_each_class

FEWEST_OF_A_CLASS = 2
"""One to fit on and one to choose by."""


def label_share(labels_N: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Places of ``share`` of each class's images, rounded, two at least, ascending; drawn with the seed.

    Raises Mistake for a class with a single image.
    """
    labels, counts = np.unique(labels_N, return_counts=True)
    if (counts < FEWEST_OF_A_CLASS).any():
        raise Mistake(
            f"class {labels[counts.argmin()]} has a single training image, and fine-tuning needs two, one to fit on "
            "and one to choose its learning rate by; add images, raise evaluation.max_train_images, or leave the class "
            "out"
        )
    whole_N = torch.from_numpy(labels_N)
    # A larger subset of a draw contains a smaller one, so this is the larger of the two in each class.
    share_S = share_of_each_class(whole_N, share, seed=seed, draw=0)
    fewest_S = shots_of_each_class(whole_N, FEWEST_OF_A_CLASS, seed=seed, draw=0)
    chosen: NDArray[np.int64] = torch.cat([share_S, fewest_S]).unique().numpy()
    return chosen
