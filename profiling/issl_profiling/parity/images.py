"""Photo-like images, and what our loader makes of them.

Letters: N images, H height, W width.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from issl_engine.loading import TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.base import Flags, Floats
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import Colour, ColourDraws
from issl_engine.views.augmentations.crop import Crop, CropDraws
from issl_engine.views.augmentations.flip import Flip
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.config import Augmentation, ViewsConfig
from issl_engine.views.streams import ViewStreams

SEED = 5
NOTHING = Augmentation(flip=0, colour_jitter=None, greyscale=0)
WHOLE = (1.0, 1.0)
MEAN_LEVEL, LIGHT_STD, COLOUR_STD = 110, 55, 25
"""Grey levels; a few pixels of a hundred are clipped, as in photographs."""


class Drawn(NamedTuple):
    """What is drawn for the only view of N images; ``sigma`` in pixels of the crop, 0 for no blur."""

    crop: CropDraws
    colour: ColourDraws
    sigma: Floats
    solarised: Flags
    mirrored: Flags


class Crops(NamedTuple):
    """``crops`` [N, 3, size, size], float64, in grey levels; ``images`` [N, 3, H, W], uint8, that they come from."""

    crops: Tensor
    images: Tensor
    draws: Drawn


def photo_like(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """[count, height, width, 3]: random images whose amplitudes fall as one over the frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = np.inf  # no constant part
    noise = np.fft.fft2(rng.standard_normal((count, 4, height, width))) / frequency
    planes = np.fft.ifft2(noise).real
    planes /= planes.std(axis=(2, 3), keepdims=True)
    levels = MEAN_LEVEL + LIGHT_STD * planes[:, :1] + COLOUR_STD * planes[:, 1:]
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def image_set(pixels: NDArray[np.uint8]) -> ImageSet:
    sizes_HW = np.tile(np.array([pixels.shape[1:3]], np.int32), (len(pixels), 1))
    return ImageSet(labels=np.zeros(len(pixels), np.int64), sizes_HW=sizes_HW, pixels=pixels)


def one_crop(
    augmentation: Augmentation = NOTHING,
    *,
    size: int,
    area: tuple[float, float] = WHOLE,
    interpolation: str = "bilinear",
) -> ViewsConfig:
    """One crop in grey levels. With ``area`` whole it is the image, resized."""
    ratio = (1.0, 1.0) if area == WHOLE else (3 / 4, 4 / 3)
    return ViewsConfig.model_validate(
        {
            "groups": [{"count": 1, "size": size, "area": area, "ratio": ratio}],
            "num_global_views": 1,
            "augmentation": augmentation,
            "mean": (0.0, 0.0, 0.0),
            "std": (1 / 255, 1 / 255, 1 / 255),
            "interpolation": interpolation,
        }
    )


def draw(views: ViewsConfig, sizes_HW: NDArray[np.int32]) -> Drawn:
    """What the loader draws for the first N images of a run, for ``views`` of one crop."""
    (batch,) = ViewStreams(views, seed=SEED, channels=3).batches(sizes_HW, epoch=0, first_position=0)
    (group,) = views.groups
    augmentation = views.augmentation_of(group)
    crop = Crop(size=group.size, area=group.area, ratio=group.ratio, interpolation=views.interpolation)
    return Drawn(
        crop=crop.draw(batch),
        colour=Colour(augmentation.colour_jitter, augmentation.greyscale).draw(batch),
        sigma=(augmentation.blur or Blur(probability=0)).draw(batch),
        solarised=(augmentation.solarise or Solarise(probability=0)).draw(batch),
        mirrored=Flip(augmentation.flip).draw(batch),
    )


def loaded_crops(images: ImageSet, pixels: NDArray[np.uint8], views: ViewsConfig) -> Crops:
    """Every image once, through the training loader; ``pixels`` [N, H, W, 3] are the decoded images."""
    loader = TrainingViews(
        images, views, batch_size=len(images), rank=0, world_size=1, seed=SEED, device=torch.device("cpu"),
        num_threads=1,
    )  # fmt: skip
    batch = next(loader)
    loader.close()
    shown = torch.from_numpy(pixels[batch.ids.numpy()]).permute(0, 3, 1, 2)
    return Crops(batch.crops[0][0].double(), shown, draw(views, images.sizes_HW))
