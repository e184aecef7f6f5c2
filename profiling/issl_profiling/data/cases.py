"""What is loaded in a measurement: images, views, batch, threads. A recipe's, or one of two made here."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from issl_engine.recipe.schema import Recipe
from issl_engine.sources.base import Dataset, ImageSet
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import ColourJitter
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_profiling.parity.images import photo_like

JITTER = ColourJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
SMALL_IMAGES = 10_000
LARGEST_BATCH = 256
NUM_PHOTOS = 256
PHOTO_HEIGHT, PHOTO_WIDTH = 375, 500
PHOTO_QUALITY = 90
"""A file then has about 100 kB, as ImageNet's have on average."""
PHOTOS_PER_BLOCK = 16
"""Made at a time."""


@dataclass(frozen=True, kw_only=True)
class DataCase:
    """One loader's settings; ``device`` is where DALI works and crops end."""

    name: str
    images: ImageSet
    views: ViewsConfig
    batch_size: int
    decode_threads: int
    device: torch.device
    prefetch_batches: int = 2
    cache_bytes: int = 0
    dtype: torch.dtype = torch.float32
    channels_last: bool = True

    @property
    def views_text(self) -> str:
        """Such as 2x224 + 6x96."""
        return " + ".join(f"{group.count}x{group.size}" for group in self.views.groups)

    def with_views(self, augmentation: Augmentation) -> "DataCase":
        """The same crops, with this augmentation in every group."""
        groups = tuple(group.model_copy(update={"augmentation": None}) for group in self.views.groups)
        return replace(self, views=self.views.model_copy(update={"groups": groups, "augmentation": augmentation}))


def photo_case(folder: Path, *, decode_threads: int, device: torch.device) -> DataCase:
    """SwAV's crops, 2 x 224 + 6 x 96, of JPEG files as large as ImageNet's, with SimCLR's colours and blur."""
    views = ViewsConfig(
        groups=(CropGroup(count=2, size=224, area=(0.14, 1.0)), CropGroup(count=6, size=96, area=(0.05, 0.14))),
        augmentation=Augmentation(colour_jitter=JITTER, blur=Blur()),
    )
    return DataCase(
        name="photos", images=make_photos(folder), views=views, batch_size=32, decode_threads=decode_threads,
        device=device,
    )  # fmt: skip


def make_photos(folder: Path, count: int = NUM_PHOTOS) -> ImageSet:
    """Writes ``count`` JPEG files of 500 x 375 px into ``folder``, like photographs in size and in what decoding them
    takes. Every call makes the same images."""
    paths = tuple(str(folder / f"{index:04d}.jpg") for index in range(count))
    for first in range(0, count, PHOTOS_PER_BLOCK):
        block = paths[first : first + PHOTOS_PER_BLOCK]
        for path, pixels in zip(block, photo_like(len(block), PHOTO_HEIGHT, PHOTO_WIDTH, seed=first), strict=True):
            Image.fromarray(pixels).save(path, quality=PHOTO_QUALITY)
    sizes_HW = np.broadcast_to(np.array([PHOTO_HEIGHT, PHOTO_WIDTH], np.int32), (count, 2))
    return ImageSet(labels=np.zeros(count, np.int64), sizes_HW=sizes_HW, paths=paths)


def small_case(*, decode_threads: int, device: torch.device) -> DataCase:
    """2 x 32 + 4 x 16 crops of 32 px images in memory, as CIFAR's, with jitter and grey."""
    pixels = np.random.default_rng(0).integers(0, 256, (SMALL_IMAGES, 32, 32, 3), dtype=np.uint8)
    sizes_HW = np.broadcast_to(np.array([32, 32], np.int32), (SMALL_IMAGES, 2))
    views = ViewsConfig(
        groups=(CropGroup(count=2, size=32, area=(0.2, 1.0)), CropGroup(count=4, size=16, area=(0.05, 0.2))),
        augmentation=Augmentation(colour_jitter=JITTER),
    )
    images = ImageSet(labels=np.zeros(SMALL_IMAGES, np.int64), sizes_HW=sizes_HW, pixels=pixels)
    return DataCase(
        name="small", images=images, views=views, batch_size=256, decode_threads=decode_threads, device=device
    )


def recipe_case(recipe: Recipe, dataset: Dataset, *, device: torch.device) -> DataCase:
    """What pretraining with this recipe loads, in batches of 256 at most: one rank's are no larger as a rule."""
    training, images = recipe.training, dataset.pretraining_images
    batch_size = min(LARGEST_BATCH, training.global_batch_size // training.accumulation_steps, len(images))
    return DataCase(
        name=recipe.name, images=images, views=recipe.views, batch_size=batch_size,
        decode_threads=recipe.data.decode_threads, prefetch_batches=recipe.data.prefetch_batches,
        cache_bytes=recipe.data.cache_bytes, device=device, channels_last=training.channels_last,
        dtype=torch.bfloat16 if training.precision == "bf16" else torch.float32,
    )  # fmt: skip
