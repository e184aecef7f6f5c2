"""Splits of the training split for choosing hyper-parameters, balanced over classes."""

import torch
from torch import Tensor


def hold_out(labels_N: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """(kept, held out): disjoint int64 indices in ascending order; each class gives ``fraction`` of its images, at
    least one, and keeps at least one. Raises ValueError for a class with a single image."""
    generator = torch.Generator().manual_seed(seed)
    held_out = []
    for label in labels_N.unique().tolist():
        members = (labels_N == label).nonzero().flatten()
        if len(members) < 2:
            raise ValueError(
                f"class {label} has a single training image, so none can be held out to choose a probe's "
                "hyper-parameters; add images or leave the class out"
            )
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out.append(members[torch.randperm(len(members), generator=generator)[:count]])
    chosen = torch.cat(held_out).sort().values
    kept = torch.ones(len(labels_N), dtype=torch.bool)
    kept[chosen] = False
    return kept.nonzero().flatten(), chosen
