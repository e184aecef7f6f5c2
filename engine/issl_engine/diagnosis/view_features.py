"""Representations of several augmented views of each image, drawn as training draws its global views.

Letters: N images, V views of each, the first G of a draw; b images of a batch, D width of the representation.
"""

import numpy as np
import torch
from torch import Tensor, nn

from issl_engine.loading import TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.views.batch import MultiCropBatch
from issl_engine.views.config import ViewsConfig


def global_views(views: ViewsConfig) -> ViewsConfig:
    """The groups of the global views alone."""
    groups, count = [], 0
    for group in views.groups:
        if count < views.num_global_views:
            groups.append(group)
            count += group.count
    return views.model_copy(update={"groups": tuple(groups)})


@torch.no_grad()
def view_features(
    encoder: nn.Module, images: ImageSet, views: ViewsConfig, *, num_views: int, batch_size: int, seed: int,
    device: torch.device, num_threads: int,
) -> Tensor:  # fmt: skip
    """[N, V, D] float32 on the CPU: as many passes over the images as give ``num_views`` global views each, or more.

    The encoder runs as it is set, so put it in evaluation mode. Batches have at most ``batch_size`` views; N is the
    largest number up to ``len(images)`` that equal batches make.
    """
    views = global_views(views)
    G = views.num_views
    batches_per_pass = -(-len(images) * G // max(batch_size, G))
    b = len(images) // batches_per_pass
    used = images.subset(np.arange(b * batches_per_pass))
    passes = -(-num_views // G)
    loader = TrainingViews(
        used, views, batch_size=b, rank=0, world_size=1, seed=seed, device=device, num_threads=num_threads
    )
    z_NVD: Tensor | None = None
    try:
        for number in range(passes):
            for _ in range(batches_per_pass):
                batch = next(loader).to(device)
                z_bGD = _encode(encoder, batch)
                if z_NVD is None:
                    z_NVD = torch.zeros(len(used), passes * G, z_bGD.shape[-1])
                z_NVD[batch.ids, number * G : (number + 1) * G] = z_bGD
    finally:
        loader.close()
    assert z_NVD is not None
    return z_NVD


def _encode(encoder: nn.Module, batch: MultiCropBatch) -> Tensor:
    """[b, G, D] float32 on the CPU."""
    crops = torch.cat(batch.crops)
    rows: Tensor = encoder(crops.flatten(0, 1).contiguous(memory_format=torch.channels_last))
    z_GbD: Tensor = rows.float().cpu().unflatten(0, crops.shape[:2])
    return z_GbD.transpose(0, 1)
