"""The crop's window, and the size that it is resized to.

Letters: B images of a batch, U uniform numbers per image and view, H height, W width.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from issl_engine.random_streams import Purpose
from issl_engine.views.augmentations.base import Arrays, Columns, Floats, Range, Transform, Uniforms, ViewBatch

Interpolation = Literal["bilinear", "bicubic"]

ATTEMPTS = 10
"""Tries for a crop window that fits, as in torchvision's RandomResizedCrop."""
COLUMNS = Columns(purpose=Purpose.VIEWS, first=0, count=2 * ATTEMPTS + 2)
"""Area of each attempt, ratio of each, top, left."""


@dataclass(frozen=True, kw_only=True)
class CropDraws:
    """``start_HW``, ``end_HW`` [B, 2]: the window in pixels of the image, end exclusive."""

    start_HW: Floats
    end_HW: Floats


@dataclass(frozen=True, kw_only=True)
class Crop(Transform):
    """A window of the image, of a share of its area and a ratio of width to height, resized to a square of ``size``
    px."""

    size: int
    area: Range
    ratio: Range
    interpolation: Interpolation

    @property
    def columns(self) -> tuple[Columns, ...]:
        return (COLUMNS,)

    def draw(self, batch: ViewBatch) -> CropDraws:
        start_HW, end_HW = crop_windows(batch.sizes_HW, self.area, self.ratio, batch.uniforms(COLUMNS))
        return CropDraws(start_HW=start_HW, end_HW=end_HW)

    def arrays(self, batch: ViewBatch) -> Arrays:
        """``start_HW`` and ``end_HW``, float32 [B, 2], in pixels of the image."""
        draws = self.draw(batch)
        return {"start_HW": draws.start_HW, "end_HW": draws.end_HW}

    def legend(self) -> str:
        return (
            f"{self.size} px, area {self.area[0]:g} to {self.area[1]:g}, "
            f"ratio {self.ratio[0]:.3g} to {self.ratio[1]:.3g}, {self.interpolation}"
        )


def crop_windows(
    sizes_HW: NDArray[np.int32],
    area: tuple[float, float],
    ratio: tuple[float, float],
    uniforms_BU: Uniforms,
) -> tuple[Floats, Floats]:
    """Random crop windows, (start, end), each [B, 2] pixels, as torchvision's RandomResizedCrop draws them.

    Ten tries of a uniform area and a log-uniform ratio; the first whose rounded sides fit is placed
    uniformly; if none fits, the largest central window whose ratio lies in the range. ``uniforms_BU``
    [B, 22]: ten areas, ten ratios, top, left.
    """
    height, width = sizes_HW[:, 0].astype(np.float64), sizes_HW[:, 1].astype(np.float64)
    areas = (area[0] + (area[1] - area[0]) * uniforms_BU[:, :ATTEMPTS]) * (height * width)[:, None]
    log_low, log_high = np.log(ratio[0]), np.log(ratio[1])
    ratios = np.exp(log_low + (log_high - log_low) * uniforms_BU[:, ATTEMPTS : 2 * ATTEMPTS])
    widths, heights = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (widths >= 1) & (heights >= 1) & (widths <= width[:, None]) & (heights <= height[:, None])
    first = fits.argmax(axis=1)
    rows = np.arange(len(first))
    h, w = heights[rows, first], widths[rows, first]
    top = np.floor(uniforms_BU[:, 2 * ATTEMPTS] * (height - h + 1))
    left = np.floor(uniforms_BU[:, 2 * ATTEMPTS + 1] * (width - w + 1))
    none_fits = ~fits.any(axis=1)
    if none_fits.any():
        image_ratio = width / height
        fallback_w = np.where(image_ratio > ratio[1], np.maximum(1, np.rint(height * ratio[1])), width)
        fallback_h = np.where(image_ratio < ratio[0], np.maximum(1, np.rint(width / ratio[0])), height)
        h, w = np.where(none_fits, fallback_h, h), np.where(none_fits, fallback_w, w)
        top = np.where(none_fits, (height - h) // 2, top)
        left = np.where(none_fits, (width - w) // 2, left)
    start = np.stack([top, left], axis=1)
    return start.astype(np.float32), (start + np.stack([h, w], axis=1)).astype(np.float32)
