"""The random numbers of augmentation: counter-based, so ranks, threads and restarts change nothing.

The order of an epoch's images is one permutation from (seed, epoch). The draws for the image at position p of
an epoch come from a Philox generator keyed by (seed, epoch), at a counter that depends on p alone. So the
whole state of the loader is the number of batches consumed.

Letters: B images of a batch, V views, U uniform numbers an image and view, H height, W width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from issl_engine.random_streams import Purpose, uniforms
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

ATTEMPTS = 10
"""Tries for a crop window that fits, as in torchvision's RandomResizedCrop."""
WINDOW_UNIFORMS = 2 * ATTEMPTS + 2
"""Area and ratio of each attempt, top, left."""
UNIFORMS_PER_VIEW = WINDOW_UNIFORMS + 10
"""The window, and ten more for flip, colours, blur and solarisation."""


@dataclass(frozen=True, kw_only=True)
class ViewDraws:
    """What happens to one view of each image of a batch; all arrays have B rows.

    ``start_HW``, ``end_HW``: crop window in pixels, end exclusive. ``hue`` in degrees; ``brightness``,
    ``contrast``, ``saturation`` factors (1 changes nothing, saturation 0 is grey); ``brightness_first``: before
    contrast, not after it; ``sigma`` in pixels of the crop, 0 for no blur.
    """

    start_HW: Floats
    end_HW: Floats
    flip: Flags
    hue: Floats
    saturation: Floats
    contrast: Floats
    brightness: Floats
    brightness_first: Flags
    sigma: Floats
    solarise: Flags


def draw_views(
    views: ViewsConfig, sizes_HW: NDArray[np.int32], *, seed: int, epoch: int, first_position: int
) -> list[ViewDraws]:
    """The draws of every view, for the B images from ``first_position`` on in the epoch's order.

    ``sizes_HW`` [B, 2] are those images' heights and widths in pixels. Raises ValueError for a seed out of
    range.
    """
    num_views = views.num_views
    uniforms_BVU = uniforms(
        len(sizes_HW), num_views * UNIFORMS_PER_VIEW,
        seed=seed, epoch=epoch, first_position=first_position, purpose=Purpose.VIEWS,
    )  # fmt: skip
    uniforms_BVU = uniforms_BVU.reshape(len(sizes_HW), num_views, UNIFORMS_PER_VIEW)
    orders_BV = uniforms(
        len(sizes_HW), num_views,
        seed=seed, epoch=epoch, first_position=first_position, purpose=Purpose.JITTER_ORDER,
    )  # fmt: skip
    return [
        _draw_view(group, views.augmentation_of(group), sizes_HW, uniforms_BVU[:, view], orders_BV[:, view] < 0.5)
        for view, group in enumerate(views.group_of_view)
    ]


def _draw_view(
    group: CropGroup,
    augmentation: Augmentation,
    sizes_HW: NDArray[np.int32],
    uniforms_BU: NDArray[np.float64],
    brightness_first: Flags,
) -> ViewDraws:
    start_HW, end_HW = crop_windows(sizes_HW, group.area, group.ratio, uniforms_BU[:, :WINDOW_UNIFORMS])
    others = uniforms_BU[:, WINDOW_UNIFORMS:].T
    flip, jitters, bright, contrasted, saturated, turned, greys, blurs, width, solarised = others
    jitter, blur, solarise = augmentation.colour_jitter, augmentation.blur, augmentation.solarise
    jittered = jitters < (jitter.probability if jitter else 0)
    grey = greys < augmentation.greyscale

    def factor(strength: float, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        low = max(0.0, 1 - strength)
        return np.where(jittered, low + (1 + strength - low) * uniform, 1.0)

    saturation = factor(jitter.saturation if jitter else 0, saturated)
    hue = np.where(jittered, (2 * turned - 1) * (jitter.hue if jitter else 0) * 360, 0.0)
    sigma = np.zeros(len(uniforms_BU))
    if blur:
        low, high = blur.sigma
        sigma = np.where(blurs < blur.probability, low + (high - low) * width, 0.0)
    return ViewDraws(
        start_HW=start_HW,
        end_HW=end_HW,
        flip=flip < augmentation.flip,
        hue=hue.astype(np.float32),
        saturation=np.where(grey, 0.0, saturation).astype(np.float32),
        contrast=factor(jitter.contrast if jitter else 0, contrasted).astype(np.float32),
        brightness=factor(jitter.brightness if jitter else 0, bright).astype(np.float32),
        brightness_first=brightness_first,
        sigma=sigma.astype(np.float32),
        solarise=solarised < (solarise.probability if solarise else 0),
    )


def crop_windows(
    sizes_HW: NDArray[np.int32],
    area: tuple[float, float],
    ratio: tuple[float, float],
    uniforms_BU: NDArray[np.float64],
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
