"""The images of a feature map, small, in one picture that all arms of a source share."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from issl_engine.sources.base import Dataset
from issl_engine.sources.images.picture import UNDECODABLE, open_image
from issl_engine.whole_file import write_whole

SIDE = 48
"""Of a thumbnail, in pixels."""
COLUMNS = 32
QUALITY = 70
"""Of WebP: a thousand photographs are then about a megabyte."""
PAPER = (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """A sprite: thumbnails of ``side`` pixels in rows of ``columns``, in the map's order."""

    webp: bytes
    side: int
    columns: int
    labels: list[int]
    """-1 where an image has no one class."""
    classes: list[str]


def write_sprite(path: Path, dataset: Dataset, images_M: NDArray[np.int64]) -> None:
    """Writes the thumbnails of test images to ``path``, a WebP."""
    rows = -(-len(images_M) // COLUMNS)
    sprite = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE), PAPER)
    for place, index in enumerate(images_M.tolist()):
        left, top = place % COLUMNS * SIDE, place // COLUMNS * SIDE
        sprite.paste(_thumbnail(dataset, index), (left, top))
    content = io.BytesIO()
    sprite.save(content, format="WEBP", quality=QUALITY, method=4)
    write_whole(path, content.getvalue())


def write_captions(path: Path, dataset: Dataset, images_M: NDArray[np.int64]) -> None:
    """Writes what a sprite holds to ``path``, which has its name and ends in .json."""
    labels = dataset.test.labels
    single = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    about = {
        "side": SIDE,
        "columns": COLUMNS,
        "labels": labels[images_M].tolist() if single else [-1] * len(images_M),
        "classes": list(dataset.classes),
    }
    write_whole(path, json.dumps(about) + "\n")


def _thumbnail(dataset: Dataset, index: int) -> Image.Image:
    """The image's centre, filling a square; white where Pillow cannot decode what DALI can."""
    try:
        picture = open_image(dataset.test, index, at_least=SIDE)
    except UNDECODABLE:
        return Image.new("RGB", (SIDE, SIDE), PAPER)
    return ImageOps.fit(picture, (SIDE, SIDE), Image.Resampling.LANCZOS)


def read_thumbnails(path: Path) -> Thumbnails | None:
    """None where there are none, or damaged ones."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        webp = path.read_bytes()
        with Image.open(io.BytesIO(webp)) as picture:
            picture.load()
        return Thumbnails(webp=webp, **about)
    except (OSError, ValueError, TypeError):
        return None
