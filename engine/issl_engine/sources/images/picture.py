"""One image of any image set as a picture, for looking at: what DALI's decoder gives, by way of Pillow."""

import io

import numpy as np
from PIL import Image, ImageOps

from issl_engine.sources.base import ImageSet

SIXTEEN_BITS_A_STEP = 257
"""65535 / 255: from 16 bits to 8, as DALI does; Pillow alone would cut all above 255."""
UNDECODABLE = (OSError, SyntaxError, ValueError)
"""What Pillow raises for a broken image."""


def open_image(images: ImageSet, index: int, *, at_least: int | None = None) -> Image.Image:
    """The first frame, upright, in RGB without transparency.

    With ``at_least`` a JPEG may come smaller by a power of two, but neither side below so many pixels: that is much
    faster. Raises OSError, SyntaxError or ValueError for a file that Pillow cannot decode.
    """
    if images.pixels is not None:
        pixels = np.ascontiguousarray(images.pixels[index])
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    return decode_image(images.stored_bytes(index), at_least=at_least)


def decode_image(
    content: bytes, *, at_least: int | None = None, background: tuple[int, int, int] | None = None
) -> Image.Image:
    """As open_image, from the bytes of a file. ``background`` (RGB, 0 to 255) shows where the image is transparent;
    with None the image's own colours do, as in DALI."""
    with Image.open(io.BytesIO(content)) as image:
        if at_least is not None:
            image.draft("RGB", (at_least, at_least))
        # First of all, since a PNG's orientation may stand behind its pixels.
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            upright = Image.fromarray(np.rint(np.asarray(upright) / SIXTEEN_BITS_A_STEP).astype(np.uint8))
        if background is not None and upright.has_transparency_data:
            seen = upright.convert("RGBA")
            below = Image.new("RGBA", seen.size, (*background, 255))
            return Image.alpha_composite(below, seen).convert("RGB")
        upright.info.pop("transparency", None)  # Pillow would warn that it drops it
        return upright.convert("RGB")
