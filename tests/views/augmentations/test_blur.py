"""Gaussian blur: how often, how wide, and what it does."""

import numpy as np
import pytest

from issl_engine.views.augmentations.blur import Blur

from .drawn_crops import NOTHING, SHARE, SIDE, N, Pixels, assert_close, configure, made, only, view_batch


def test_the_probability_is_the_share_of_crops_and_sigma_fills_its_range_evenly() -> None:
    sigma = Blur(probability=0.7, sigma=(0.5, 2.0)).draw(view_batch(NOTHING))
    drawn = sigma[sigma > 0]
    assert (sigma > 0).mean() == pytest.approx(0.7, abs=SHARE)
    assert 0.5 - 1e-5 <= drawn.min() < 0.5 + 0.01 * 1.5
    assert 2.0 - 0.01 * 1.5 < drawn.max() <= 2.0 + 1e-5
    assert drawn.mean() == pytest.approx(1.25, abs=4 * 1.5 / np.sqrt(12 * len(drawn)))


def gaussian_blur(image: Pixels, sigma: float) -> Pixels:
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    rows = sum(w * padded[i : i + len(image)] for i, w in enumerate(kernel / kernel.sum()))
    return sum(w * rows[:, i : i + image.shape[1]] for i, w in enumerate(kernel / kernel.sum()))


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_blur_is_a_gaussian_of_the_drawn_width(probability: float) -> None:
    blur = Blur(probability=probability, sigma=(0.3, 2.0))
    noise = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
    crops, images, batch = made(noise, configure(only(blur=blur)))
    drawn = blur.draw(batch)
    assert (drawn > 0).all() == (probability == 1)
    for crop, image, sigma in zip(crops, images, drawn, strict=True):
        assert_close(crop, gaussian_blur(image, sigma) if sigma > 0 else image, 1.0)
