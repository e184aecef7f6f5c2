"""Solarisation.

Letters: B images of a batch.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from issl_engine.config import Config
from issl_engine.random_streams import Purpose
from issl_engine.views.augmentations.base import Arrays, Columns, Flags, Probability, Transform, ViewBatch

COLUMN = Columns(purpose=Purpose.VIEWS, first=31, count=1)
NEVER = 256
"""A threshold that no pixel reaches."""


class Solarise(Config, Transform):
    """Inverts the pixels at or above a threshold."""

    probability: Probability = 0.2
    """Share of the crops that are solarised."""
    threshold: Annotated[int, Field(ge=0, le=255)] = 128
    """Pixel value (0 to 255) from which on pixels are inverted."""

    @property
    def columns(self) -> tuple[Columns, ...]:
        return (COLUMN,)

    def draw(self, batch: ViewBatch) -> Flags:
        """Which crops are solarised [B]."""
        return batch.uniforms(COLUMN)[:, 0] < self.probability

    def arrays(self, batch: ViewBatch) -> Arrays:
        """``threshold`` int16 [B]: the grey level from which on pixels are inverted."""
        if self.probability == 0:
            return {"threshold": None}
        return {"threshold": np.where(self.draw(batch), self.threshold, NEVER).astype(np.int16)}

    def legend(self) -> str:
        return f"solarise {self.probability:g} (from {self.threshold})"
