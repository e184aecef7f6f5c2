"""What the shapes data knows of an image besides its class, read from the table that was written with it.

Letters: n images, T columns.
"""

import colorsys
import csv
import math
from pathlib import Path

import numpy as np

from issl_engine.sources.base import SourceError
from issl_engine.sources.shapes_drawing import TEXTURES
from issl_engine.sources.target_table import TargetTable

VALUES = (
    "x", "y", "radius", "rotation_sin", "rotation_cos", "hue_sin", "hue_cos", "copies", "background_value",
    "texture_frequency", "noise",
)  # fmt: skip
"""x, y (of the centre) and radius are the largest copy's, in image sides, as are its rotation and its hue, angles by
sine and cosine; the rest is as in the table."""
ATTRIBUTES = (*TEXTURES, "dark_background", "many_copies")
"""Its texture; whether the background's brightness is below a half; whether there are seven copies or more."""
MANY_COPIES = 7


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
