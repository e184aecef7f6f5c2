"""Whether images are the same as others, or as before: two digests by SHA-256.

``content_digest`` is of every byte of the images, whatever their files are called, and is remembered while the files
stay as they were. ``listing_digest`` reads no encoded image: it tells a source from another one, and from itself after
a change of its files' names or lengths.

Letters: n images.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from issl_engine.sources.base import Dataset, ImageSet
from issl_engine.sources.images.ordered_threads import map_in_order
from issl_engine.whole_file import write_whole

_log = logging.getLogger("issl_engine")

SETTLED_SECONDS = 2.0
"""A file that was written so shortly before it is read may be written again within one tick of the file system's clock,
and its time of change would not show it. Digests of such files are not remembered."""
PIXELS_AT_ONCE = 1024
"""Images whose pixels are taken in at a time, since they may be mapped from a file."""

OnImage = Callable[[int, int], None]
"""Called with how many images are read, and of how many."""


def content_digest(images: ImageSet, memory: Path, on_image: OnImage | None = None) -> str:
    """SHA-256, in hexadecimal, of the stored bytes of all images in order.

    Of images in files it is remembered in the folder ``memory`` under the files' names, sizes and times of change, so
    that a second call reads no image. Raises OSError for a file that cannot be read.
    """
    if images.pixels is not None:
        return _of_pixels(images)
    state, newest_ns = _state(images)
    remembered = memory / f"{state}.json"
    if (digest := _recall(remembered)) is not None:
        return digest
    started_ns = time.time_ns()
    digest = _of_encoded(images, on_image)
    if newest_ns < started_ns - SETTLED_SECONDS * 1e9 and _state(images)[0] == state:
        memory.mkdir(parents=True, exist_ok=True)
        write_whole(remembered, json.dumps({"images": len(images), "sha256": digest}) + "\n")
    return digest


def _of_pixels(images: ImageSet) -> str:
    assert images.pixels is not None
    digest = hashlib.sha256(f"pixels {images.pixels.shape}\n".encode())
    for first in range(0, len(images), PIXELS_AT_ONCE):
        digest.update(np.ascontiguousarray(images.pixels[first : first + PIXELS_AT_ONCE]).data)
    return digest.hexdigest()


def _of_encoded(images: ImageSet, on_image: OnImage | None) -> str:
    """Of the images' own digests, so that no byte can move from one image to the next unseen."""
    digest = hashlib.sha256(b"encoded\n")
    each = map_in_order(lambda index: hashlib.sha256(images.stored_bytes(index)).digest(), range(len(images)))
    for number, one in enumerate(each):
        digest.update(one)
        if on_image is not None:
            on_image(number + 1, len(images))
    return digest.hexdigest()


def _state(images: ImageSet) -> tuple[str, int]:
    """SHA-256 of all files' names, sizes and times of change and of where in them the images lie; the newest time of
    change, in ns since 1970."""
    files = images.paths if images.paths is not None else images.ranges.files if images.ranges is not None else ()
    digest, newest_ns = hashlib.sha256(), 0
    for path in files:
        status = os.stat(path)
        newest_ns = max(newest_ns, status.st_mtime_ns)
        digest.update(f"{os.path.abspath(path)}\0{status.st_size} {status.st_mtime_ns}\n".encode())
    if images.ranges is not None:
        for array in (images.ranges.file_of, images.ranges.starts, images.ranges.lengths):
            digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest(), newest_ns


def _recall(path: Path) -> str | None:
    """None where nothing is remembered, or the file is damaged."""
    try:
        digest = json.loads(path.read_bytes())["sha256"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        _log.warning("%s: the file is damaged, and is made anew", path)
        return None
    return digest if isinstance(digest, str) and len(digest) == 64 else None


def listing_digest(dataset: Dataset) -> str:
    """SHA-256, in hexadecimal, of what a data set lists: its name, classes, labels, sizes, and the images' names and
    lengths in bytes, or their pixels where it holds them. No encoded image is read.

    A folder of files may lie elsewhere than before; times of change do not count. Raises OSError for a file that is
    gone.
    """
    digest = hashlib.sha256(json.dumps([dataset.name, dataset.classes]).encode())
    for images in (dataset.train, dataset.test, dataset.pretrain):
        digest.update(b"-" if images is None else _of_listed(images))
    return digest.hexdigest()


def images_digest(images: ImageSet) -> str:
    """SHA-256, in hexadecimal, of what is listed of some images, in their order, as ``listing_digest`` has it."""
    return _of_listed(images).hex()


def _of_listed(images: ImageSet) -> bytes:
    digest = hashlib.sha256(np.int64(len(images)).tobytes())
    digest.update(images.labels.astype("<i8").tobytes())
    digest.update(images.sizes_HW.astype("<i4").tobytes())
    if images.paths is not None:
        top = os.path.commonpath(images.paths) if images.paths else ""
        files_and_bytes = [(path[len(top) :], os.path.getsize(path)) for path in images.paths]
        digest.update(json.dumps(files_and_bytes).encode())
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
