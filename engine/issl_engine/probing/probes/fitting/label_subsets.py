"""Small balanced subsets of labelled images, the same for every encoder.

A subset depends on the labels in the source's order, the seed and the number of the draw, and on nothing else; a larger
one of the same draw contains a smaller one.

Letters: N images.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from issl_engine.mistakes import Mistake


def share_of_each_class(labels_N: Tensor, fraction: float, *, seed: int, draw: int) -> Tensor:
    """Places (int64, ascending) of ``fraction`` of each class's images, rounded, one at the least."""
    counts = _counts(labels_N)
    return _first_of_each(labels_N, {label: max(1, round(fraction * n)) for label, n in counts.items()}, seed, draw)


def shots_of_each_class(labels_N: Tensor, shots: int, *, seed: int, draw: int) -> Tensor:
    """Places (int64, ascending) of ``shots`` images of each class. Raises Mistake for a class that has fewer."""
    counts = _counts(labels_N)
    scarce = min(counts, key=lambda label: counts[label])
    if counts[scarce] < shots:
        raise Mistake(
            f"{shots}-shot probing needs {shots} training images of each class, but class {scarce} has only "
            f"{counts[scarce]}; take the number out of the probe's shots, or raise evaluation.max_train_images"
        )
    return _first_of_each(labels_N, dict.fromkeys(counts, shots), seed, draw)


def _counts(labels_N: Tensor) -> dict[int, int]:
    labels, counts = labels_N.unique(return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def _first_of_each(labels_N: Tensor, counts: Mapping[int, int], seed: int, draw: int) -> Tensor:
    chosen = []
    for label, count in counts.items():
        # One random stream per class: its images are the same whatever other classes there are.
        members = (labels_N == label).nonzero().flatten()
        order = np.random.default_rng((seed, draw, label)).permutation(len(members))
        chosen.append(members[torch.from_numpy(order[:count])])
    return torch.cat(chosen).sort().values
