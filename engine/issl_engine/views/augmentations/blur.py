"""Gaussian blur.

Letters: B images of a batch.
"""

from typing import Self

import numpy as np
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

COLUMNS = Columns(purpose=Purpose.VIEWS, first=29, count=2)
"""Whether, how wide."""


class Blur(Config, Transform):
    """Gaussian blur."""

    probability: Probability = 0.5
    """Share of the crops that are blurred."""
    sigma: Range = (0.1, 2.0)
    """Range of the standard deviation, in pixels of the crop."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise Mistake(f"sigma must be two numbers 0 < low <= high, not {list(self.sigma)}")
        return self

    @property
    def columns(self) -> tuple[Columns, ...]:
        return (COLUMNS,)

    def draw(self, batch: ViewBatch) -> Floats:
        """Standard deviations [B] in pixels of the crop, 0 for no blur."""
        chosen, width = batch.uniforms(COLUMNS).T
        return np.where(chosen < self.probability, within(self.sigma, width), 0.0).astype(np.float32)

    def arrays(self, batch: ViewBatch) -> Arrays:
        """``sigma`` float32 [B]; ``window`` int32 [B]: odd, three standard deviations to each side."""
        if self.probability == 0:
            return {"sigma": None, "window": None}
        sigma = self.draw(batch)
        window = np.where(sigma > 0, 2 * np.ceil(3 * sigma) + 1, 1).astype(np.int32)
        return {"sigma": sigma, "window": window}

    def legend(self) -> str:
        return f"blur {self.probability:g} (sigma {self.sigma[0]:g} to {self.sigma[1]:g} px)"
