"""What was drawn in an image of the shapes data besides its class: a line of the table beside the images, and read back
from it as values and attributes to predict.

Letters: n images, T columns.
"""

import colorsys
import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from issl_engine.sources.base import SourceError, TargetTable

TEXTURES = ("gradient", "stripes", "checks", "blobs")
VALUES = (
    "x", "y", "radius", "rotation_sin", "rotation_cos", "hue_sin", "hue_cos", "copies", "background_value",
    "texture_frequency", "noise",
)  # fmt: skip
"""x, y (of the centre) and radius are the largest copy's, in image sides, as are its rotation and its hue, angles by
sine and cosine; the rest is as in the table."""
ATTRIBUTES = (*TEXTURES, "dark_background", "many_copies")
"""Its texture; whether the background's brightness is below a half; whether there are seven copies or more."""
MANY_COPIES = 7


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One copy of the shape: centre and radius in pixels, rotation in degrees, colour as #rrggbb."""

    x: float
    y: float
    radius: float
    rotation: float
    colour: str


@dataclass(frozen=True, kw_only=True)
class Nuisances:
    """What was drawn besides the class.

    ``texture_frequency`` in waves per image side, ``texture_angle`` in degrees, ``background_value`` the mean
    brightness from 0 to 1, ``noise`` the standard deviation in pixel values; ``copies`` in drawing order.
    """

    texture: str
    texture_frequency: float
    texture_angle: float
    background_value: float
    background_colours: tuple[str, str]
    noise: float
    copies: tuple[Copy, ...]

    def row(self) -> dict[str, str]:
        """A line of the table; a column about the copies holds one value per copy, separated by spaces."""
        single = ("texture_frequency", "texture_angle", "background_value", "noise")
        of_copies = {
            key: " ".join(f"{getattr(copy, key):.2f}" for copy in self.copies)
            for key in ("x", "y", "radius", "rotation")
        }
        return {
            "texture": self.texture,
            **{key: f"{getattr(self, key):.3f}" for key in single},
            "background_colours": " ".join(self.background_colours),
            "copies": str(len(self.copies)),
            **of_copies,
            "colour": " ".join(copy.colour for copy in self.copies),
        }


def read_targets(table: Path, split: str, count: int, image_size: int) -> tuple[TargetTable, TargetTable]:
    """(Values, attributes) of the ``count`` images of a split, in the order of drawing. Raises SourceError."""
    mend = f"remove {table.parent}, to have it made anew"
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        values = [_values(row, image_size) for row in rows]
        attributes = [_attributes(row) for row in rows]
    except (OSError, KeyError, ValueError, AttributeError, TypeError, csv.Error) as error:
        raise SourceError(f"{table}: the table of nuisances cannot be read; {mend}") from error
    if len(rows) != count:
        raise SourceError(f"{table}: {len(rows)} lines are left of the {count} of split {split}; {mend}")
    return (
        TargetTable(names=VALUES, values_NT=np.array(values, dtype=np.float32)),
        TargetTable(names=ATTRIBUTES, values_NT=np.array(attributes, dtype=np.float32)),
    )


def _values(row: dict[str, str], image_size: int) -> list[float]:
    xs, ys, radii, rotations = ([float(v) for v in row[key].split()] for key in ("x", "y", "radius", "rotation"))
    largest = max(range(len(radii)), key=lambda place: radii[place])
    colour = row["colour"].split()[largest]
    hue = 2 * math.pi * colorsys.rgb_to_hsv(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))[0]
    rotation = math.radians(rotations[largest])
    return [
        xs[largest] / image_size, ys[largest] / image_size, radii[largest] / image_size,
        math.sin(rotation), math.cos(rotation), math.sin(hue), math.cos(hue),
        *(float(row[key]) for key in ("copies", "background_value", "texture_frequency", "noise")),
    ]  # fmt: skip


def _attributes(row: dict[str, str]) -> list[float]:
    textures = [float(row["texture"] == name) for name in TEXTURES]
    return [*textures, float(float(row["background_value"]) < 0.5), float(int(row["copies"]) >= MANY_COPIES)]
