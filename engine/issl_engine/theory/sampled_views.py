"""Views of a sample of a recipe's images, by the recipe's own pipeline, as features that can be compared.

Letters: n sampled images, V views of each, B images of a batch, D width of a view's features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from issl_engine.loading import TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.views.config import ViewsConfig

BATCH = 32
PIXELS_SIDE = 8
"""Without an encoder, views are compared as pixels averaged down to this many per side."""


@dataclass(frozen=True, kw_only=True)
class SampledViews:
    """Features of views float32 [n, V, D], and the images' labels int64 [n]."""

    x_nVD: Tensor
    labels_n: Tensor


def sample_views(
    images: ImageSet, views: ViewsConfig, *, num_images: int, num_views: int, encoder: nn.Module | None, seed: int
) -> SampledViews:
    """``num_views`` global views (what a teacher sees) of ``num_images`` images, or of all if they are fewer; of more
    than 32, whole batches of 32 only, so that every epoch shows each of them.

    ``encoder``, in evaluation mode, makes them into features of length one; None compares pixels. Raises Mistake as
    TrainingViews does.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:num_images])
    batch_size = min(BATCH, len(chosen))
    chosen = chosen[: len(chosen) // batch_size * batch_size]
    subset = images.subset(chosen.astype(np.int64))
    loader = TrainingViews(
        subset, views, batch_size=batch_size, rank=0, world_size=1, seed=seed, device=torch.device("cpu"),
        num_threads=1,
    )  # fmt: skip
    found: list[list[Tensor]] = [[] for _ in chosen]
    try:
        while min(map(len, found)) < num_views:
            batch = next(loader)
            features_VBD = _features(batch.crops[0], encoder)  # the first group is global; local views are others
            for place, image in enumerate(batch.ids.tolist()):
                found[image].extend(features_VBD[:, place])
    finally:
        loader.close()
    x_nVD = torch.stack([torch.stack(rows[:num_views]) for rows in found])
    return SampledViews(x_nVD=x_nVD, labels_n=torch.from_numpy(subset.labels))


@torch.no_grad()
def _features(crops_VBCHW: Tensor, encoder: nn.Module | None) -> Tensor:
    """[V, B, D]."""
    images = crops_VBCHW.flatten(0, 1)
    if encoder is not None:
        rows = F.normalize(encoder(images.contiguous(memory_format=torch.channels_last)), dim=1)
    else:
        rows = F.adaptive_avg_pool2d(images, min(PIXELS_SIDE, images.shape[-1])).flatten(1)
    features_VBD: Tensor = rows.unflatten(0, crops_VBCHW.shape[:2])
    return features_VBD
