"""Memory that DALI needs on a GPU, asked for once: growth while training is what makes runs fail hours later."""

import logging

import numpy as np
import torch
from nvidia.dali import backend

from issl_engine.sources.base import ImageSet
from issl_engine.views.config import ViewsConfig

_log = logging.getLogger("issl_engine")

LARGEST_SHARE = 0.25
"""Of the GPU's free memory. What the largest images would need beyond it is asked for when they come."""
BYTES_A_PIXEL = 3 * (1 + 4)
"""Of a crop: three channels in whole numbers before normalisation, in float32 after."""


def batch_bytes(images: ImageSet, views: ViewsConfig, batch_size: int) -> int:
    """Upper bound of one batch's memory: its images, decoded, were they the largest of all, and their crops."""
    pixels = np.sort(images.sizes_HW.astype(np.int64).prod(axis=1))[-batch_size:].sum()
    crops = batch_size * sum(group.count * group.size**2 for group in views.groups)
    return int(3 * pixels + BYTES_A_PIXEL * crops)


def preallocate(
    images: ImageSet, views: ViewsConfig, batch_size: int, prefetch_batches: int, device: torch.device
) -> None:
    """On a GPU, fills DALI's pool for the batches that are made ahead and the one in use; elsewhere does nothing."""
    if device.type != "cuda":
        return
    wanted = batch_bytes(images, views, batch_size) * (prefetch_batches + 1)
    free, _ = torch.cuda.mem_get_info(device)
    allowed = int(LARGEST_SHARE * free)
    if wanted > allowed:
        _log.info(
            "data: %.1f GiB would be reserved on the GPU for batches of the largest images; reserving %.1f GiB",
            wanted / 2**30, allowed / 2**30,
        )  # fmt: skip
    index = device.index if device.index is not None else torch.cuda.current_device()
    backend.PreallocateDeviceMemory(min(wanted, allowed), index)  # type: ignore[attr-defined]
