"""Decoded images have the sizes that the source found, or the run stops.

Crop windows are drawn from those sizes before anything is decoded. A file that was replaced since by a smaller image
would have windows outside of it, and DALI's resize then reads beyond the image's memory.

Letters: B images of a batch.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn

from issl_engine.loading.images import num_channels
from issl_engine.sources.base import ImageSet


def expected_sizes(images: ImageSet, ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """Height, width and channels of each image [B, 3], as the graph takes them."""
    sizes_HW = images.sizes_HW[ids]
    return np.concatenate([sizes_HW, np.full((len(ids), 1), num_channels(images), dtype=np.int32)], axis=1)


def of_expected_size(decoded: Any, size_HWC: Any) -> tuple[Any, Any]:
    """The decoded images, and their true shapes for check_sizes.

    The graph stops where an image has not as many pixels as expected, without a copy. An image of as many pixels but
    other sides goes through (its memory is as large, so no harm is done) and check_sizes finds it.
    """
    return fn.reshape(decoded, shape=size_HWC, layout="HWC"), decoded.shape()


def check_sizes(images: ImageSet, ids: NDArray[np.int64], shapes: Any) -> None:
    """Raises RuntimeError, as DALI does for an image that it cannot decode."""
    if not np.array_equal(np.asarray(shapes.as_array())[:, :2], images.sizes_HW[ids]):
        raise RuntimeError("an image has another size than the source found")
