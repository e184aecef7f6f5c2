"""The batch of crops that the loader hands to the training step."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MultiCropBatch:
    """The crops of B images on one rank.

    ``crops``: one float tensor [count, B, 3, size, size] per crop group, normalised; ``ids``: int64 [B], each image's
    place in its ImageSet; ``labels``: int64 [B] (read by online probes only, never by an objective). ``masks``:
    one bool tensor [count, B, size / patch, size / patch] per crop group, true where a patch is masked, or None where
    the group has no masks; left out, no group has any.
    """

    crops: tuple[Tensor, ...]
    ids: Tensor
    labels: Tensor
    masks: tuple[Tensor | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.masks:
            object.__setattr__(self, "masks", (None,) * len(self.crops))

    def to(self, device: torch.device) -> "MultiCropBatch":
        """The same on ``device``, but for the ids, which stay where they are."""
        return MultiCropBatch(
            crops=tuple(crop.to(device, non_blocking=True) for crop in self.crops),
            ids=self.ids,
            labels=self.labels.to(device, non_blocking=True),
            masks=tuple(None if mask is None else mask.to(device, non_blocking=True) for mask in self.masks),
        )
