"""The size of an encoded image, from its header where that is enough."""

import struct
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from issl_engine.sources.formats.image_kinds import refused_kind

FORMAT = 2
"""Of files that remember sizes; raise it whenever sizes are read differently."""
EXIF_ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width; DALI's decoder applies them."""
END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
"""How a whole file ends; Pillow does without a PNG's end mark, DALI does not."""
TAIL_BYTES = 1024
"""The end mark is looked for in so many last bytes: some cameras append padding."""


def read_size(path: str, num_bytes: int) -> tuple[int, int] | str:
    """size_of_image of the file ``path``, whose length is ``num_bytes``."""
    try:
        with open(path, "rb") as file:
            return size_of_image(file, num_bytes)
    except OSError as error:
        return str(error)


def size_of_image(file: BinaryIO, num_bytes: int) -> tuple[int, int] | str:
    """(height, width) as decoded, in pixels, or why the image cannot be read or is of a kind that is left out.

    Of a JPEG only header and end-of-image marker are looked at: decoding all of ImageNet would take an hour. Images of
    other formats are decoded, as their headers say nothing of a missing end. ``file`` holds the image alone.
    """
    if num_bytes == 0:
        return "empty file"
    try:
        with Image.open(file) as image:
            refusal = refused_kind(image, file)
            if refusal is not None:
                return refusal
            width, height = image.size
            if isinstance(image, TiffImageFile):  # whose size Pillow has already turned, in some versions
                width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
            if image.getexif().get(EXIF_ORIENTATION) in TURNED:
                width, height = height, width
            if image.format not in ("JPEG", "MPO"):
                image.load()
            mark = END_MARKS.get(str(image.format))
            if mark is not None and not _ends_with(file, num_bytes, mark):
                return "truncated"
    except UnidentifiedImageError:
        return "not an image"
    except (
        OSError,
        SyntaxError,
        ValueError,
        KeyError,
        TypeError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        return str(error) or type(error).__name__
    return height, width


def _ends_with(file: BinaryIO, num_bytes: int, mark: bytes) -> bool:
    file.seek(max(0, num_bytes - TAIL_BYTES))
    return mark in file.read()
