"""JPEG files like photographs in size and in what decoding them takes, made on the spot."""

from pathlib import Path

import numpy as np
from PIL import Image

from issl_engine.sources.base import ImageSet
from issl_profiling.data.parity_images import photo_like

NUM_PHOTOS = 256
HEIGHT, WIDTH = 375, 500
QUALITY = 90
"""A file then has about 100 kB, as ImageNet's have on average."""
BLOCK = 16
"""Made at a time."""


def make_photos(folder: Path, count: int = NUM_PHOTOS) -> ImageSet:
    """Writes ``count`` JPEG files of 500 x 375 px into ``folder``. Every call makes the same images."""
    paths = tuple(str(folder / f"{index:04d}.jpg") for index in range(count))
    for first in range(0, count, BLOCK):
        block = paths[first : first + BLOCK]
        for path, pixels in zip(block, photo_like(len(block), HEIGHT, WIDTH, seed=first), strict=True):
            Image.fromarray(pixels).save(path, quality=QUALITY)
    sizes_HW = np.broadcast_to(np.array([HEIGHT, WIDTH], np.int32), (count, 2))
    return ImageSet(labels=np.zeros(count, np.int64), sizes_HW=sizes_HW, paths=paths)
