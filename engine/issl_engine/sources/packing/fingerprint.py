"""Tells one source from another, and from itself after a change, without reading every image file."""

import hashlib
import json
import os

import numpy as np

from issl_engine.sources.base import Dataset, ImageSet

PIXELS_AT_ONCE = 1024
"""Images whose pixels are taken in at a time, since they may be mapped from a file."""


def fingerprint(dataset: Dataset) -> str:
    """SHA-256, in hexadecimal, of classes, labels, sizes and the images' names and lengths, or of their pixels.

    A folder of files may lie elsewhere than before; times of change do not count. Raises OSError for a file that is
    gone.
    """
    digest = hashlib.sha256(json.dumps([dataset.name, dataset.classes]).encode())
    for images in (dataset.train, dataset.test, dataset.pretrain):
        digest.update(b"-" if images is None else _of_images(images))
    return digest.hexdigest()


def _of_images(images: ImageSet) -> bytes:
    digest = hashlib.sha256(np.int64(len(images)).tobytes())
    digest.update(images.labels.astype("<i8").tobytes())
    digest.update(images.sizes_HW.astype("<i4").tobytes())
    if images.paths is not None:
        top = os.path.commonpath(images.paths) if images.paths else ""
        listed = [(path[len(top) :], os.path.getsize(path)) for path in images.paths]
        digest.update(json.dumps(listed).encode())
    elif images.ranges is not None:
        ranges = images.ranges
        files = [(os.path.basename(file), stamp[0]) for file, stamp in zip(ranges.files, ranges.stamps, strict=True)]
        digest.update(json.dumps([files, ranges.names]).encode())
        for array in (ranges.file_of, ranges.starts, ranges.lengths):
            digest.update(array.astype("<i8").tobytes())
    else:
        assert images.pixels is not None
        for first in range(0, len(images), PIXELS_AT_ONCE):
            digest.update(images.pixels[first : first + PIXELS_AT_ONCE].tobytes())
    return digest.digest()
