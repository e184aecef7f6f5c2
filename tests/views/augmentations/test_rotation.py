"""Rotation: how often, how far, and what it does."""

import numpy as np
import pytest

from issl_engine.views.augmentations.rotation import Rotation

from .drawn_crops import SHARE, SIDE, N, assert_close, configure, made, only, smooth_pixels, view_batch
from .warped import centres, warped


def test_the_probability_is_the_share_of_crops_and_the_range_is_filled() -> None:
    rotation = Rotation(probability=0.3, degrees=(-20, 60))
    draws = rotation.draw(view_batch(only(rotation=rotation)))
    assert draws.rotated.mean() == pytest.approx(0.3, abs=SHARE)
    turned = draws.degrees[draws.rotated]
    assert (draws.degrees[~draws.rotated] == 0).all()
    assert (turned.min(), turned.mean(), turned.max()) == pytest.approx((-20, 20, 60), abs=1.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_rotation_turns_the_crop_anticlockwise_about_its_centre(channels: int) -> None:
    rotation = Rotation(probability=0.7, degrees=(-50, 90), fill=60)
    crops, images, batch = made(smooth_pixels(channels=channels), configure(only(rotation=rotation)))
    draws = rotation.draw(batch)
    assert 0 < draws.rotated.sum() < N
    x, y = (place - SIDE / 2 for place in centres())
    for crop, image, degrees in zip(crops, images, draws.degrees, strict=True):
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        source = SIDE / 2 + cosine * x - sine * y, SIDE / 2 + sine * x + cosine * y
        # places are rounded to 1/32 of a pixel
        assert_close(crop, warped(image, *source, fill=60), 4)
        assert abs(crop - warped(image, *source, fill=60)).mean() < 0.5


def test_a_quarter_turn_is_exact() -> None:
    rotation = Rotation(probability=1, degrees=(90, 90))
    crops, images, _ = made(smooth_pixels(), configure(only(rotation=rotation)))
    assert_close(crops, np.rot90(images, axes=(1, 2)), 0.01)
