"""Solarisation: how often, and what it does."""

import numpy as np
import pytest

from issl_engine.views.augmentations.flip import Flip
from issl_engine.views.augmentations.solarise import Solarise

from .drawn_crops import NOTHING, SHARE, assert_close, configure, made, only, per_image, smooth_pixels, view_batch


def test_the_probability_is_the_share_of_crops_whether_flipped_or_not() -> None:
    batch = view_batch(NOTHING)
    solarised = Solarise(probability=0.2).draw(batch)
    assert solarised.mean() == pytest.approx(0.2, abs=SHARE)
    assert (Flip(0.3).draw(batch) & solarised).mean() == pytest.approx(0.06, abs=SHARE)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_solarising_inverts_pixels_from_the_threshold_on(probability: float) -> None:
    solarise = Solarise(probability=probability, threshold=100)
    crops, images, batch = made(smooth_pixels(), configure(only(solarise=solarise)))
    chosen = (per_image(solarise.draw(batch)) == 1) & (images >= 100)
    assert_close(crops, np.where(chosen, 255 - images, images), 1e-3)


@pytest.mark.parametrize("threshold", [0, 255])
def test_the_extreme_thresholds_of_solarising(threshold: int) -> None:
    pixels = smooth_pixels()
    pixels[:, 0] = 255
    crops, images, _ = made(pixels, configure(only(solarise=Solarise(probability=1, threshold=threshold))))
    assert_close(crops, np.where(images >= threshold, 255 - images, images), 1e-3)
