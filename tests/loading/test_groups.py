"""Crop groups that differ: each has its own augmentation and normalisation."""

import numpy as np
import pytest
import torch
from PIL import Image

from issl_engine.loading import TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import ColourJitter
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.batch import MultiCropBatch
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.streams import ViewStreams

N, SIDE, SEED = 64, 24, 5
NOTHING = Augmentation(flip=0, colour_jitter=None, greyscale=0)
LEVELS = (1 / 255, 1 / 255, 1 / 255)


def whole_image(augmentation: Augmentation | None = None, **settings: tuple[float, float, float]) -> CropGroup:
    """One crop that is the image itself."""
    return CropGroup(count=1, size=SIDE, area=(1, 1), ratio=(1, 1), augmentation=augmentation, **settings)


def configure(*groups: CropGroup, augmentation: Augmentation = NOTHING) -> ViewsConfig:
    return ViewsConfig(
        groups=groups, num_global_views=len(groups), augmentation=augmentation, mean=(0, 0, 0), std=LEVELS
    )


def image_set(channels: int = 3) -> ImageSet:
    coarse = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    pixels = np.stack([Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for one in coarse])
    sizes_HW = np.full((N, 2), SIDE, np.int32)
    return ImageSet(labels=np.zeros(N, np.int64), sizes_HW=sizes_HW, pixels=pixels[..., :channels])


def first_batch(views: ViewsConfig, images: ImageSet) -> MultiCropBatch:
    loader = TrainingViews(
        images, views, batch_size=N, rank=0, world_size=1, seed=SEED, device=torch.device("cpu"), num_threads=1
    )
    batch = next(loader)
    loader.close()
    return batch


@pytest.mark.parametrize("channels", [1, 3])
def test_a_group_is_normalised_by_its_own_mean_and_std(channels: int) -> None:
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    views = configure(whole_image(), whole_image(mean=mean), whole_image(mean=mean, std=std))
    levels, shifted, both = (crops[0] for crops in first_batch(views, image_set(channels)).crops)
    mean_C, std_C = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    torch.testing.assert_close(shifted, levels - 255 * mean_C)
    torch.testing.assert_close(both, (levels / 255 - mean_C) / std_C)


def test_the_two_views_of_byol_are_two_groups_of_one_crop() -> None:
    """Both are global views; blur falls on one always and on the other rarely, solarisation on the other alone."""
    jitter = ColourJitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    first = Augmentation(colour_jitter=jitter, blur=Blur(probability=1))
    second = Augmentation(colour_jitter=jitter, blur=Blur(probability=0.1), solarise=Solarise(probability=0.2))
    groups = (CropGroup(count=1, size=16, augmentation=first), CropGroup(count=1, size=16, augmentation=second))
    views = ViewsConfig(groups=groups)
    assert (views.num_views, views.num_global_views) == (2, 2)
    sizes_HW = np.full((2000, 2), 32, np.int32)
    ours, theirs = ViewStreams(views, seed=0, channels=3).batches(sizes_HW, epoch=0, first_position=0)
    assert first.solarise is None
    assert first.blur is not None
    assert second.blur is not None
    assert second.solarise is not None
    shares = ((first.blur.draw(ours) > 0).mean(), (second.blur.draw(theirs) > 0).mean())
    assert shares == pytest.approx((1, 0.1), abs=0.03)
    assert second.solarise.draw(theirs).mean() == pytest.approx(0.2, abs=0.03)
    crops = first_batch(views, image_set()).crops
    assert [tuple(crop.shape) for crop in crops] == [(1, N, 3, 16, 16)] * 2
    roughness_of = [abs(crop.diff(dim=-1)).mean().item() for crop in crops]
    assert roughness_of[0] < 0.8 * roughness_of[1]
