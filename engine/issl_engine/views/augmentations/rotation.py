"""Rotation about the crop's centre.

Letters: B images of a batch.
"""

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.random_streams import Purpose
from issl_engine.views.augmentations.base import (
    Arrays,
    Columns,
    Flags,
    Floats,
    Probability,
    Range,
    Transform,
    ViewBatch,
    within,
)

Doubles = NDArray[np.float64]

COLUMNS = Columns(purpose=Purpose.ROTATION, count=2)
"""Whether, how far."""


@dataclass(frozen=True, kw_only=True)
class RotationDraws:
    """``degrees`` [B] anticlockwise, 0 where ``rotated`` [B] is false."""

    rotated: Flags
    degrees: Floats


class Rotation(Config, Transform):
    """Turns the crop about its centre, bilinearly; its size stays."""

    probability: Probability = 0.5
    """Share of the crops that are turned."""
    degrees: Range = (-30.0, 30.0)
    """Range of the angle, in degrees anticlockwise."""
    fill: Annotated[int, Field(ge=0, le=255)] = 0
    """Grey level of the corners that come into sight."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not -180 <= self.degrees[0] <= self.degrees[1] <= 180:
            raise Mistake(f"degrees must be two angles -180 <= low <= high <= 180, not {list(self.degrees)}")
        return self

    @property
    def columns(self) -> tuple[Columns, ...]:
        return (COLUMNS,)

    def draw(self, batch: ViewBatch) -> RotationDraws:
        chosen, angle = batch.uniforms(COLUMNS).T
        rotated = chosen < self.probability
        degrees = np.where(rotated, within(self.degrees, angle), 0.0)
        return RotationDraws(rotated=rotated, degrees=degrees.astype(np.float32))

    def arrays(self, batch: ViewBatch) -> Arrays:
        """``rotated`` bool [B]; ``matrix`` float32 [B, 3, 3], of rotation_matrices."""
        draws = self.draw(batch)
        matrices = rotation_matrices(draws.degrees.astype(np.float64), batch.size)
        return {"rotated": draws.rotated, "matrix": matrices.astype(np.float32)}

    def legend(self) -> str:
        low, high = self.degrees
        return f"rotation {self.probability:g} ({low:g} to {high:g} degrees, fill {self.fill})"


def rotation_matrices(degrees: Doubles, size: int) -> Doubles:
    """[B, 3, 3]: from a pixel of the result to the one of the crop that it shows.

    The picture of ``size`` px turns anticlockwise about its centre. Pixels count from the upper left corner, x to the
    right and y down; the first pixel's centre is (0.5, 0.5).
    """
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    centre = size / 2
    matrices = np.tile(np.eye(3), (len(degrees), 1, 1))
    matrices[:, 0, 0], matrices[:, 0, 1] = cosine, -sine
    matrices[:, 1, 0], matrices[:, 1, 1] = sine, cosine
    matrices[:, 0, 2] = centre * (1 - cosine + sine)
    matrices[:, 1, 2] = centre * (1 - cosine - sine)
    return matrices
