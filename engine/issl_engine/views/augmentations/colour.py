"""Colour jitter and greyscale: hue, saturation and brightness by one matrix per image, contrast after it.

Hue turns about the grey axis of the RGB cube. A third of a turn then swaps the channels, as it does in HSV; a turn of
YIQ's chroma does not, and is further off at every angle. Grey is saturation 0.

Letters: B images of a batch; matrices are [B, 3, 3], rows for the new channels.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from issl_engine.config import Config
from issl_engine.random_streams import Purpose
from issl_engine.views.augmentations.base import (
    Arrays,
    Columns,
    Flags,
    Floats,
    Probability,
    Transform,
    Uniforms,
    ViewBatch,
)

COLUMNS = Columns(purpose=Purpose.VIEWS, first=23, count=6)
"""Whether jittered, brightness, contrast, saturation, hue, whether grey."""
ORDER_COLUMN = Columns(purpose=Purpose.JITTER_ORDER, count=1)
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])
"""Shares of red, green and blue in the grey image (ITU-R BT.601)."""


class ColourJitter(Config):
    """Random brightness, contrast, saturation and hue. A strength s means a factor drawn from [max(0, 1-s), 1+s]."""

    probability: Probability = 0.8
    """Share of the crops that are jittered."""
    brightness: Annotated[float, Field(ge=0)] = 0.4
    """Strength s of the brightness factor."""
    contrast: Annotated[float, Field(ge=0)] = 0.4
    """Strength s of the contrast factor."""
    saturation: Annotated[float, Field(ge=0)] = 0.4
    """Strength s of the saturation factor."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """The hue is turned by a share of the colour circle drawn from [-hue, hue]."""


NO_JITTER = ColourJitter(probability=0, brightness=0, contrast=0, saturation=0, hue=0)


@dataclass(frozen=True, kw_only=True)
class ColourDraws:
    """Arrays [B]: ``hue`` in degrees; ``saturation``, ``contrast`` and ``brightness`` factors (1 changes nothing,
    saturation 0 is grey); ``brightness_first``: before contrast, not after it."""

    hue: Floats
    saturation: Floats
    contrast: Floats
    brightness: Floats
    brightness_first: Flags


@dataclass(frozen=True)
class Colour(Transform):
    """Colour jitter, or None for none, and the probability of grey."""

    jitter: ColourJitter | None
    greyscale: float

    @property
    def columns(self) -> tuple[Columns, ...]:
        return (COLUMNS, ORDER_COLUMN)

    def draw(self, batch: ViewBatch) -> ColourDraws:
        jitter = self.jitter or NO_JITTER
        chosen, brightness, contrast, saturation, hue, grey = batch.uniforms(COLUMNS).T
        jittered = chosen < jitter.probability

        def factor(strength: float, uniform: Uniforms) -> Uniforms:
            low = max(0.0, 1 - strength)
            return np.where(jittered, low + (1 + strength - low) * uniform, 1.0)

        saturations = np.where(grey < self.greyscale, 0.0, factor(jitter.saturation, saturation))
        return ColourDraws(
            hue=np.where(jittered, (2 * hue - 1) * jitter.hue * 360, 0.0).astype(np.float32),
            saturation=saturations.astype(np.float32),
            contrast=factor(jitter.contrast, contrast).astype(np.float32),
            brightness=factor(jitter.brightness, brightness).astype(np.float32),
            brightness_first=batch.uniforms(ORDER_COLUMN)[:, 0] < 0.5,
        )

    def arrays(self, batch: ViewBatch) -> Arrays:
        """``matrix`` float32 [B, C, C]: the new colour of a pixel; then ``contrast``, about the crop's mean grey, and
        ``brightness``, float32 [B]. None for what these settings never change."""
        draws = self.draw(batch)
        contrasts = self._changes_contrast()
        matrix = contrast = last = None
        if self._changes_colour(batch.channels):
            first = np.where(draws.brightness_first | (not contrasts), draws.brightness, np.float32(1))
            # Hue and saturation do nothing to one channel.
            one_channel = first[:, None, None]
            matrix = colour_matrices(draws.hue, draws.saturation, first) if batch.channels == 3 else one_channel
        if contrasts:
            contrast, last = draws.contrast, np.where(draws.brightness_first, np.float32(1), draws.brightness)
        return {"matrix": matrix, "contrast": contrast, "brightness": last}

    def legend(self) -> str:
        grey = f"grey {self.greyscale:g}"
        if (jitter := self.jitter) is None:
            return grey
        return (
            f"jitter {jitter.probability:g} (brightness {jitter.brightness:g}, contrast {jitter.contrast:g}, "
            f"saturation {jitter.saturation:g}, hue {jitter.hue:g}), {grey}"
        )

    def _changes_colour(self, channels: int) -> bool:
        """By the matrix of hue, saturation and brightness."""
        jitter = self.jitter or NO_JITTER
        if jitter.probability > 0:
            if jitter.brightness > 0:
                return True
            if channels == 3 and (jitter.saturation > 0 or jitter.hue > 0):
                return True
        return channels == 3 and self.greyscale > 0

    def _changes_contrast(self) -> bool:
        return self.jitter is not None and self.jitter.probability > 0 and self.jitter.contrast > 0


def colour_matrices(
    hue: NDArray[np.float32], saturation: NDArray[np.float32], brightness: NDArray[np.float32]
) -> NDArray[np.float32]:
    """[B, 3, 3]: ``hue`` in degrees turns first, then ``saturation`` and ``brightness`` (factors [B]) scale.

    Without change it is the identity to the last bit; saturation 0 puts the weighted grey into all three channels.
    """
    grey = np.tile(GREY_WEIGHTS, (3, 1))
    s = _per_matrix(saturation)
    matrices: NDArray[np.float64] = (s * np.eye(3) + (1 - s) * grey) @ _turns(np.deg2rad(_per_matrix(hue)))
    return (_per_matrix(brightness) * matrices).astype(np.float32)


def _turns(radians: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations about the axis on which red, green and blue are equal; red goes towards green."""
    mean = np.full((3, 3), 1 / 3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turns: NDArray[np.float64] = np.cos(radians) * np.eye(3) + (1 - np.cos(radians)) * mean + np.sin(radians) * across
    return turns


def _per_matrix(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return values.astype(np.float64)[:, None, None]
