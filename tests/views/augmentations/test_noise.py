"""Gaussian noise: how often, how strong, from where in the field, and what it does."""

import numpy as np
import pytest
import torch

from issl_engine.loading import TrainingViews
from issl_engine.views.augmentations.noise import GaussianNoise
from issl_engine.views.config import CropGroup
from issl_engine.views.noise_field import NUM_STARTS, NoiseField

from .drawn_crops import SEED, SHARE, SIDE, configure, image_set, made, only, per_image, smooth_pixels, view_batch

NUM = 64


def test_the_probability_is_the_share_of_crops_and_the_range_is_filled() -> None:
    noise = GaussianNoise(probability=0.7, std=(2, 12))
    draws = noise.draw(view_batch(only(gaussian_noise=noise)))
    assert (draws.std > 0).mean() == pytest.approx(0.7, abs=SHARE)
    noisy = draws.std[draws.std > 0]
    assert (noisy.min(), noisy.mean(), noisy.max()) == pytest.approx((2, 7, 12), abs=0.2)
    assert 0 <= draws.start.min() < draws.start.max() < NUM_STARTS
    assert draws.start.mean() == pytest.approx(NUM_STARTS / 2, rel=0.03)
    assert abs(np.corrcoef(draws.start, draws.std)[0, 1]) < 0.05


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_the_window_of_the_field_times_its_deviation(channels: int) -> None:
    noise = GaussianNoise(probability=0.6, std=(3, 20))
    crops, clean, batch = made(smooth_pixels(NUM, channels=channels), configure(only(gaussian_noise=noise)))
    draws = noise.draw(batch)
    windows = NoiseField(SEED, SIDE).windows(draws.start, SIDE, channels) / 32
    noisy = np.clip(clean + per_image(draws.std) * windows, 0, 255)
    assert abs(crops - noisy).max() <= 0.51
    assert 0 < (draws.std == 0).sum() < NUM


def test_noise_differs_between_images_and_views() -> None:
    noise = only(gaussian_noise=GaussianNoise(probability=1, std=(10, 10)))
    group = CropGroup(count=1, size=SIDE, area=(1, 1), ratio=(1, 1))
    views = configure(noise).model_copy(update={"groups": (group, group), "num_global_views": 2})
    loader = TrainingViews(
        image_set(np.full((NUM, SIDE, SIDE, 3), 128, np.uint8)), views, batch_size=NUM, rank=0, world_size=1,
        seed=SEED, device=torch.device("cpu"), num_threads=1,
    )  # fmt: skip
    batch = next(loader)
    loader.close()
    crops = torch.cat([crops[0] for crops in batch.crops]).flatten(1) - 128
    assert crops.std().item() == pytest.approx(10, rel=0.02)
    assert crops.mean().item() == pytest.approx(0, abs=0.1)
    correlations = torch.corrcoef(crops).fill_diagonal_(0)
    assert correlations.abs().max() < 0.15
