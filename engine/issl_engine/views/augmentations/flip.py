"""The horizontal flip.

Letters: B images of a batch.
"""

from dataclasses import dataclass

import numpy as np

from issl_engine.random_streams import Purpose
from issl_engine.views.augmentations.base import Arrays, Columns, Flags, Transform, ViewBatch

COLUMN = Columns(purpose=Purpose.VIEWS, first=22, count=1)


@dataclass(frozen=True)
class Flip(Transform):
    """Mirrors left and right."""

    probability: float

    @property
    def columns(self) -> tuple[Columns, ...]:
        return (COLUMN,)

    def draw(self, batch: ViewBatch) -> Flags:
        """Which crops are mirrored [B]."""
        return batch.uniforms(COLUMN)[:, 0] < self.probability

    def arrays(self, batch: ViewBatch) -> Arrays:
        """``mirrored`` int32 [B]: 1 or 0."""
        return {"mirrored": self.draw(batch).astype(np.int32)}

    def legend(self) -> str:
        return f"flip {self.probability:g}"
