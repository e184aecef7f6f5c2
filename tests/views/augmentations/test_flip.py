"""The horizontal flip: how often, and what it does."""

import numpy as np
import pytest

from issl_engine.views.augmentations.flip import Flip

from .drawn_crops import NOTHING, SHARE, assert_close, configure, made, only, per_image, smooth_pixels, view_batch


def test_the_probability_is_the_share_of_crops() -> None:
    assert Flip(0.3).draw(view_batch(NOTHING)).mean() == pytest.approx(0.3, abs=SHARE)
    assert not Flip(0).draw(view_batch(NOTHING)).any()


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_flip_mirrors_left_and_right(probability: float) -> None:
    crops, images, batch = made(smooth_pixels(), configure(only(flip=probability)))
    mirrored = Flip(probability).draw(batch)
    assert mirrored.any()
    assert mirrored.all() == (probability == 1)
    assert_close(crops, np.where(per_image(mirrored) == 1, images[:, :, ::-1], images), 1e-3)
