"""From an image of a source to what a shard stores of it."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from issl_engine.sources.base import ImageSet, SourceError
from issl_engine.sources.images.picture import UNDECODABLE
from issl_engine.sources.packing.reencode import Reencoding, reencoded

SUFFIXES = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "BMP": "bmp", "WEBP": "webp", "TIFF": "tif", "JPEG2000": "jp2",
    "PPM": "ppm",
}  # fmt: skip
"""Pillow's name of a format → the suffix in a shard: those formats that sources let through."""


@dataclass(frozen=True, kw_only=True)
class PackedSample:
    """One image as it is stored. ``key`` names it in all shards; ``label`` is -1 without a class; ``size_HW`` in
    pixels, upright."""

    key: str
    suffix: str
    content: bytes
    label: int
    size_HW: tuple[int, int]
    reencoded: bool = False


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An image that cannot be decoded, how messages name it, and why."""

    name: str
    reason: str


def make_sample(split: str, images: ImageSet, index: int, how: Reencoding) -> PackedSample | LeftOut:
    """The image at ``index`` of a split; its key says both. Raises SourceError for a file that is not as it was
    scanned."""
    key, label = f"{split}-{index:08d}", int(images.labels[index])
    height, width = images.sizes_HW[index].tolist()
    if images.pixels is not None:
        return PackedSample(
            key=key, suffix="png", content=_png(images.pixels[index]), label=label, size_HW=(height, width)
        )
    name = images.describe(index)
    content, kind, transparent = _read(images, index, name, (height, width))
    suffix = SUFFIXES[kind]
    if not how.changes((height, width), transparent=transparent):
        return PackedSample(key=key, suffix=suffix, content=content, label=label, size_HW=(height, width))
    jpeg = suffix == "jpg"
    try:
        content, size_HW = reencoded(content, (height, width), how, jpeg=jpeg)
    except UNDECODABLE as error:
        return LeftOut(name=name, reason=str(error))
    suffix = "jpg" if jpeg else "png"
    return PackedSample(key=key, suffix=suffix, content=content, label=label, size_HW=size_HW, reencoded=True)


def _read(images: ImageSet, index: int, name: str, size_HW: tuple[int, int]) -> tuple[bytes, str, bool]:
    """The stored bytes, Pillow's name of their format, and whether it may be transparent somewhere."""
    try:
        content = images.stored_bytes(index)
        with Image.open(io.BytesIO(content)) as image:
            kind, found, transparent = str(image.format), image.size, image.has_transparency_data
    except UNDECODABLE as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no image any more"
        raise SourceError(
            f"{name}: the file is not as it was scanned ({why}); put it back, and the same command goes on"
        ) from error
    if kind not in SUFFIXES or sorted(found) != sorted(size_HW):
        raise SourceError(
            f"{name}: the file is not as it was scanned ({kind} of {found[0]} x {found[1]} px); put it back, and the "
            "same command goes on"
        )
    return content, kind, transparent


def _png(pixels: np.ndarray) -> bytes:
    """``pixels`` [H, W, C] with C 1 or 3, without loss."""
    plain = np.ascontiguousarray(pixels)
    file = io.BytesIO()
    Image.fromarray(plain[..., 0] if plain.shape[-1] == 1 else plain).save(file, format="PNG")
    return file.getvalue()
