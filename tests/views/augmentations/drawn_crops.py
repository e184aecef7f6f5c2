"""What the loader makes of known pixels, and what was drawn for them; and draws alone, for many images."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from issl_engine.loading import TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.base import ViewBatch
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.streams import ViewStreams

Pixels = NDArray[np.float64]
N, SIDE, SEED = 16, 24, 5
MANY = 10_000
"""Images of which draws alone are made."""
SHARE = 4 * np.sqrt(0.25 / MANY)
"""How far from its probability the share of MANY images may be."""
NOTHING = Augmentation(flip=0, colour_jitter=None, greyscale=0)
WHOLE = (1.0, 1.0)
CLOSE = 2.0
"""Grey levels of 255."""


class Made(NamedTuple):
    """``crops`` and the ``images`` that they come from, both [N, H, W, 3] in grey levels, and what they are drawn
    from."""

    crops: Pixels
    images: Pixels
    batch: ViewBatch


def only(**parts: object) -> Augmentation:
    """These keys alone."""
    return NOTHING.model_copy(update=parts)


def smooth_pixels(
    count: int = N, height: int = SIDE, width: int = SIDE, channels: int = 3, cells: int = 8
) -> NDArray[np.uint8]:
    """Random images as smooth as photographs are."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, cells, cells, 3), dtype=np.uint8)
    images = [Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC) for one in coarse]
    return np.stack([np.asarray(image) for image in images])[..., :channels]


def image_set(pixels: NDArray[np.uint8]) -> ImageSet:
    sizes_HW = np.tile(np.array([pixels.shape[1:3]], np.int32), (len(pixels), 1))
    return ImageSet(labels=np.zeros(len(pixels), np.int64), sizes_HW=sizes_HW, pixels=pixels)


def configure(
    augmentation: Augmentation = NOTHING,
    *,
    size: int = SIDE,
    area: tuple[float, float] = WHOLE,
    interpolation: str = "bilinear",
) -> ViewsConfig:
    """One crop in grey levels; with ``area`` whole and ``size`` that of the image it is the image itself."""
    return ViewsConfig.model_validate(
        {
            "groups": [{"count": 1, "size": size, "area": area, "ratio": (1, 1) if area == WHOLE else (0.75, 1.33)}],
            "num_global_views": 1,
            "augmentation": augmentation,
            "mean": (0.0, 0.0, 0.0),
            "std": (1 / 255, 1 / 255, 1 / 255),
            "interpolation": interpolation,
        }
    )


def made(pixels: NDArray[np.uint8], views: ViewsConfig) -> Made:
    """All images once, cut by one batch of the loader."""
    images = image_set(pixels)
    loader = TrainingViews(
        images, views, batch_size=len(images), rank=0, world_size=1, seed=SEED, device=torch.device("cpu"),
        num_threads=1,
    )  # fmt: skip
    batch = next(loader)
    loader.close()
    channels = pixels.shape[-1]
    (drawn,) = ViewStreams(views, seed=SEED, channels=channels).batches(images.sizes_HW, epoch=0, first_position=0)
    crops = batch.crops[0][0].permute(0, 2, 3, 1).double().numpy()
    shown = np.repeat(pixels[batch.ids.numpy()], 3 // channels, axis=-1).astype(np.float64)
    return Made(crops, shown, drawn)


def view_batch(
    augmentation: Augmentation, count: int = MANY, *, seed: int = 0, epoch: int = 0, first: int = 0, view: int = 0
) -> ViewBatch:
    """What is drawn for one of two views of ``count`` images."""
    views = ViewsConfig(groups=(CropGroup(count=2, size=16),), augmentation=augmentation)
    sizes_HW = np.tile(np.array([[48, 64]], dtype=np.int32), (count, 1))
    return ViewStreams(views, seed=seed, channels=3).batches(sizes_HW, epoch=epoch, first_position=first)[view]


def per_image(values: NDArray[np.generic]) -> Pixels:
    return values.astype(np.float64)[:, None, None, None]


def luma(images: Pixels) -> Pixels:
    return (images @ np.array([0.299, 0.587, 0.114]))[..., None]


def assert_close(ours: Pixels, expected: Pixels, tolerance: float = CLOSE) -> None:
    assert abs(ours - np.clip(expected, 0, 255)).max() <= tolerance
