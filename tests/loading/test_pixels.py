"""What the loader makes of known pixels beside augmentations: normalisation, grey images, memory, groups."""

import numpy as np
import torch

from issl_engine.loading import TrainingViews
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import ColourJitter
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig

from ..views.augmentations.drawn_crops import (
    NOTHING,
    SIDE,
    WHOLE,
    N,
    assert_close,
    configure,
    image_set,
    made,
    smooth_pixels,
)


def test_mean_and_std_are_subtracted_and_divided_by_per_channel() -> None:
    views = configure().model_copy(update={"mean": (0.1, 0.5, 0.9), "std": (0.2, 0.3, 0.4)})
    crops, images, _ = made(smooth_pixels(), views)
    expected = (images / 255 - np.array(views.mean)) / np.array(views.std)
    np.testing.assert_allclose(crops, expected, atol=1e-4)


def test_a_grey_source_gives_three_channels_as_its_rgb_twin_does() -> None:
    """Fewer operators run on one channel: brightness and contrast still do what they do to three equal ones."""
    grey = smooth_pixels(N, 28, 28, channels=1)
    augmentation = Augmentation(
        colour_jitter=ColourJitter(saturation=0.4, hue=0.1, probability=0.8), greyscale=0.3, flip=0.5,
        blur=Blur(probability=0.5, sigma=(0.3, 1.0)), solarise=Solarise(probability=0.3),
    )  # fmt: skip
    views = configure(augmentation, size=20, area=(0.3, 0.9)).model_copy(
        update={"mean": (0.3, 0.3, 0.5), "std": (0.01, 0.01, 0.02)}
    )
    ours, _, _ = made(grey, views)
    theirs, _, _ = made(np.repeat(grey, 3, axis=-1), views)
    assert ours.shape == (N, 20, 20, 3)
    difference = abs(ours - theirs) * np.array(views.std) * 255
    assert np.quantile(difference, 0.999) <= 1.01  # rounded once a colour operator
    assert difference.mean() < 0.2


def test_pixels_need_not_be_contiguous() -> None:
    pixels = smooth_pixels()
    crops, images, _ = made(pixels[..., :1], configure())
    assert_close(crops, images, 1e-3)
    crops, images, _ = made(np.asfortranarray(pixels), configure())
    assert_close(crops, images, 1e-3)


def test_each_group_may_have_an_augmentation_of_its_own() -> None:
    views = ViewsConfig(
        groups=(
            CropGroup(count=1, size=SIDE, area=WHOLE, ratio=(1, 1)),
            CropGroup(count=1, size=SIDE, area=WHOLE, ratio=(1, 1), augmentation=Augmentation(
                flip=0, colour_jitter=None, greyscale=0, solarise=Solarise(probability=1, threshold=0))),
        ),
        num_global_views=1, augmentation=NOTHING, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255),
    )  # fmt: skip
    loader = TrainingViews(
        image_set(smooth_pixels()), views, batch_size=N, rank=0, world_size=1, seed=0,
        device=torch.device("cpu"), num_threads=1,
    )  # fmt: skip
    plain, inverted = next(loader).crops
    loader.close()
    torch.testing.assert_close(inverted, 255 - plain)
