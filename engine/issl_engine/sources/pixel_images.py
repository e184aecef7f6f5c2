"""Images of one size, held as an array.

Letters: n images, H height, W width, C channels (1 or 3).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from issl_engine.sources.base import ImageSet


def pixel_images(pixels: NDArray[np.uint8], labels: NDArray[Any]) -> ImageSet:
    """``pixels`` [n, H, W, C] are taken as they lie, in memory or in a mapped file: loaders copy batches only."""
    return ImageSet(
        labels=labels.astype(np.int64),
        sizes_HW=np.broadcast_to(np.array(pixels.shape[1:3], dtype=np.int32), (len(pixels), 2)),
        pixels=pixels,
    )
