"""Large JPEGs made smaller, so that training decodes them several times faster. This changes the images."""

import io
from dataclasses import dataclass

from PIL import Image

from issl_engine.sources.images.picture import decode_image

DECODED_AT_LEAST = 2
"""A JPEG may be decoded reduced, but not below so many times the wanted size: the filter does the rest."""


@dataclass(frozen=True, kw_only=True)
class SmallerJPEGs:
    """JPEGs whose shorter side is longer than ``shorter_side_px`` are scaled down to it and encoded with ``quality``
    (of 100, chroma at half the resolution)."""

    shorter_side_px: int
    quality: int


def is_larger(size_HW: tuple[int, int], smaller: SmallerJPEGs) -> bool:
    """Whether an image of this size is made smaller."""
    return min(size_HW) > smaller.shorter_side_px


def smaller_jpeg(content: bytes, size_HW: tuple[int, int], smaller: SmallerJPEGs) -> tuple[bytes, tuple[int, int]]:
    """The new JPEG, upright and in RGB, and its (height, width): antialiased by Lanczos' filter, the ratio of sides
    kept to a pixel. Raises OSError, SyntaxError or ValueError for an image that Pillow cannot decode."""
    side, shorter = smaller.shorter_side_px, min(size_HW)
    height, width = (round(length * side / shorter) for length in size_HW)
    image = decode_image(content, at_least=DECODED_AT_LEAST * side)
    file = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(
        file, format="JPEG", quality=smaller.quality, subsampling="4:2:0"
    )
    return file.getvalue(), (height, width)
