"""Images that are stored otherwise than their source has them: large ones smaller, transparent ones on a colour.

This changes the images. Smaller ones are decoded several times faster in training, and what is transparent would
otherwise be shown in whatever colour the file has there, mostly black.
"""

import io
from dataclasses import dataclass

from PIL import Image

from issl_engine.sources.images.picture import decode_image

DECODED_AT_LEAST = 2
"""A JPEG may be decoded reduced, but not below so many times the wanted size: the filter does the rest."""

RGB = tuple[int, int, int]
"""A colour, 0 to 255 each."""


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """Images whose shorter side is longer than ``shorter_side_px`` are scaled down to it. JPEGs are encoded again with
    ``quality`` (of 100, chroma at half the resolution), all others become PNGs."""

    shorter_side_px: int
    quality: int


@dataclass(frozen=True, kw_only=True)
class Reencoding:
    """``smaller`` None leaves sizes, ``background`` None leaves transparency as it is."""

    smaller: Smaller | None = None
    background: RGB | None = None

    def changes(self, size_HW: tuple[int, int], *, transparent: bool) -> bool:
        """Whether such an image is stored otherwise."""
        larger = self.smaller is not None and min(size_HW) > self.smaller.shorter_side_px
        return larger or (transparent and self.background is not None)


def reencoded(
    content: bytes, size_HW: tuple[int, int], how: Reencoding, *, jpeg: bool
) -> tuple[bytes, tuple[int, int]]:
    """The new JPEG (for a JPEG) or PNG, upright and in RGB, and its (height, width): antialiased by Lanczos' filter,
    the ratio of sides kept to a pixel.

    Raises OSError, SyntaxError or ValueError for an image that Pillow cannot decode.
    """
    shorter = min(size_HW)
    side = shorter if how.smaller is None else min(shorter, how.smaller.shorter_side_px)
    image = decode_image(content, at_least=DECODED_AT_LEAST * side, background=how.background)
    if side < shorter:
        height, width = (max(1, round(length * side / shorter)) for length in size_HW)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if jpeg:
        assert how.smaller is not None, "a JPEG has no transparency"
        image.save(file, format="JPEG", quality=how.smaller.quality, subsampling="4:2:0")
    else:
        image.save(file, format="PNG")
    return file.getvalue(), (image.height, image.width)
