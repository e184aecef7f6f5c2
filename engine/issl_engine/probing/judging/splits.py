"""The splits of probing, and how a part of the training split is held out, balanced over classes.

Letters: N images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What a probe is fitted on, what chooses its hyper-parameters, and what judges it; no image is in two."""

    train: Features
    held_out: Features
    judged: Features
    judged_split: str
    """test or held_out."""


def hold_out(labels: Tensor | NDArray[np.int64], fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """(kept, held out): disjoint int64 indices in ascending order that cover all images (int64 ``labels`` [N]).

    Each class gives ``fraction`` of its images (rounded), at least one, and keeps at least one. Raises
    ValueError for a class with a single image, and for a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise Mistake(f"the held-out fraction must lie between 0 and 1, not {fraction}; 0.1 is usual")
    labels_N = torch.as_tensor(labels)
    generator = torch.Generator().manual_seed(seed)
    held_out = []
    for label in labels_N.unique().tolist():
        members = (labels_N == label).nonzero().flatten()
        if len(members) < 2:
            raise Mistake(
                f"class {label} has a single image left to fit a probe, so none can be held out to choose "
                "hyper-parameters; add images, raise evaluation.max_train_images, or leave the class out"
            )
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out.append(members[torch.randperm(len(members), generator=generator)[:count]])
    if not held_out:
        raise Mistake("there is no training image to fit a probe; check the source's training split")
    chosen = torch.cat(held_out).sort().values
    kept = torch.ones(len(labels_N), dtype=torch.bool)
    kept[chosen] = False
    return kept.nonzero().flatten(), chosen
