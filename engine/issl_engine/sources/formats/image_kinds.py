"""Kinds of image files that DALI does not decode, or not into the picture that viewers show: refused when scanned.

Found by decoding one of each kind with DALI and with Pillow (tests/sources/formats/test_odd_images.py does so again).
"""

from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    EXTRASAMPLES,
    PHOTOMETRIC_INTERPRETATION,
    TiffImageFile,
)

DECODED = frozenset({"JPEG", "MPO", "PNG", "BMP", "WEBP", "TIFF", "JPEG2000", "PPM"})
"""Pillow's names of the formats that DALI decodes."""
TIFF_BITS = {
    "L": {8}, "P": {8}, "RGB": {8, 16}, "RGBA": {8}, "CMYK": {8}, "YCbCr": {8}, "I;16": {16}, "I;16B": {16},
}  # fmt: skip
"""Pillow's mode of a TIFF → bits per channel with which DALI decodes it rightly."""
PREMULTIPLIED = 1
WHITE_IS_ZERO = 0
CONVERT = "convert it to PNG or JPEG"


def refused_kind(image: Image.Image, file: BinaryIO) -> str | None:
    """Why an image that Pillow has opened from ``file`` is of a kind that is left out, or None."""
    if image.format not in DECODED:
        return f"{image.format}, which is not decoded here; {CONVERT}"
    if isinstance(image, TiffImageFile) and not _is_plain_tiff(image):
        bits = "/".join(str(n) for n in dict.fromkeys(image.tag_v2.get(BITSPERSAMPLE, (1,))))
        return f"TIFF of an unusual kind ({image.mode}, {bits} bits), which is not decoded rightly here; {CONVERT}"
    if image.format == "WEBP" and _exif_follows_odd_chunk(file):
        return f"WebP with EXIF data behind a part of odd length, which is not decoded here; {CONVERT}"
    return None


def _is_plain_tiff(image: TiffImageFile) -> bool:
    bits = set(image.tag_v2.get(BITSPERSAMPLE, (1,)))
    if not bits <= TIFF_BITS.get(image.mode, set()):
        return False
    if PREMULTIPLIED in image.tag_v2.get(EXTRASAMPLES, ()):
        return False
    return not (bits == {16} and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO)


def _exif_follows_odd_chunk(file: BinaryIO) -> bool:
    """DALI's reader looks for EXIF data without the byte that pads chunks of odd length."""
    file.seek(12)
    odd = False
    while len(header := file.read(8)) == 8:
        if header[:4] == b"EXIF":
            return odd
        length = int.from_bytes(header[4:], "little")
        odd |= bool(length % 2)
        file.seek(length + length % 2, 1)
    return False
