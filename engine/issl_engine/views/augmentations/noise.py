"""Gaussian noise.

Letters: B images of a batch, C channels.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.random_streams import Purpose
from issl_engine.views.augmentations.base import (
    Arrays,
    Columns,
    Floats,
    Probability,
    Range,
    Transform,
    ViewBatch,
    within,
)
from issl_engine.views.noise_field import STEPS_PER_STD, first_places

COLUMNS = Columns(purpose=Purpose.NOISE, count=3)
"""Whether, how strong, where in the field."""


@dataclass(frozen=True, kw_only=True)
class NoiseDraws:
    """``std`` [B] in grey levels, 0 for no noise; ``start`` [B]: first place of the crop's noise in the field."""

    std: Floats
    start: NDArray[np.int64]


class GaussianNoise(Config, Transform):
    """Adds normal noise, independent in each pixel and channel, and rounds to whole grey levels.

    The noise of an image is a window, at a random place, of one long field of four million normal numbers that the
    seed makes; these are rounded to 1/32 of a standard deviation and end at four standard deviations.
    """

    probability: Probability = 0.5
    """Share of the crops that get noise."""
    std: Range = (2.0, 10.0)
    """Range of the standard deviation, in grey levels (0 to 255)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.std[0] <= self.std[1] <= 255:
            raise Mistake(f"std must be two numbers 0 < low <= high <= 255, not {list(self.std)}")
        return self

    @property
    def columns(self) -> tuple[Columns, ...]:
        return (COLUMNS,)

    def draw(self, batch: ViewBatch) -> NoiseDraws:
        chosen, strength, place = batch.uniforms(COLUMNS).T
        std = np.where(chosen < self.probability, within(self.std, strength), 0.0)
        return NoiseDraws(std=std.astype(np.float32), start=first_places(place))

    def arrays(self, batch: ViewBatch) -> Arrays:
        """``noisy`` bool [B]; ``scale`` float32 [B]: grey levels per step of the field; ``noise`` int8
        [B, size, size, C]: the windows of the field."""
        draws = self.draw(batch)
        return {
            "noisy": draws.std > 0,
            "scale": draws.std / np.float32(STEPS_PER_STD),
            "noise": batch.noise_field().windows(draws.start, batch.size, batch.channels),
        }

    def legend(self) -> str:
        return f"noise {self.probability:g} (std {self.std[0]:g} to {self.std[1]:g} grey levels)"
