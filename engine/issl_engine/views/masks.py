"""Masks of patches, drawn on the host: a generator per image and view, so that ranks and restarts change nothing.

Letters: B images of a batch, P patches along each side of a crop.
"""

import math
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.views.augmentations.base import Range

Mask = NDArray[np.bool_]

SMALLEST_BLOCK_SHARE = 16 / 196
"""BEiT's blocks have 16 patches or more, of 14 x 14."""
LOG_ASPECT = math.log(1 / 0.3)
"""The aspect ratio of a block is log-uniform from 0.3 to 1/0.3."""
TRIES = 10
"""Tries for a block that fits and masks something new."""


class PatchMask(Config):
    """Patches that an objective hides from the encoder. The crops themselves stay whole."""

    patch_size: Annotated[int, Field(ge=1)]
    """Side of a patch, in pixels; divides the crop's size."""
    ratio: Range = (0.4, 0.4)
    """Range of the share of a crop's patches that is masked, drawn for each crop."""
    kind: Literal["random", "block"] = "random"
    """Patches one by one, or in rectangles as in BEiT (Bao et al. 2022)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 <= self.ratio[0] <= self.ratio[1] <= 1:
            raise Mistake(f"ratio must be two shares 0 <= low <= high <= 1, not {list(self.ratio)}")
        return self

    def legend(self, size: int) -> str:
        """What a contact sheet says of it, for crops of ``size`` px."""
        low, high = self.ratio
        side = size // self.patch_size
        share = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        return f"mask {share} of {side} x {side} patches of {self.patch_size} px ({self.kind}), shown grey"


def draw_mask(mask: PatchMask, side: int, generator: np.random.Generator) -> Mask:
    """One mask [P, P] of exactly round(share x P x P) patches, the share drawn from ``mask.ratio``."""
    low, high = mask.ratio
    wanted = round((low + (high - low) * generator.random()) * side * side)
    if mask.kind == "block":
        return _blocks(side, wanted, generator)
    masked = np.zeros(side * side, dtype=bool)
    masked[generator.random(side * side).argsort()[:wanted]] = True
    return masked.reshape(side, side)


def _blocks(side: int, wanted: int, generator: np.random.Generator) -> Mask:
    """Rectangles, as in BEiT (algorithm 1), none of which masks more than is left; single patches at random when
    no rectangle was found in ten tries."""
    masked = np.zeros((side, side), dtype=bool)
    left = wanted
    while left > 0:
        added = _add_block(masked, left, generator)
        if added == 0:
            open_patches = np.flatnonzero(~masked)
            order = generator.random(len(open_patches)).argsort()
            masked.flat[open_patches[order[:left]]] = True
            break
        left -= added
    return masked


def _add_block(masked: Mask, left: int, generator: np.random.Generator) -> int:
    """Masks one more block of at most ``left`` new patches; returns how many are new, 0 if none was found."""
    side = len(masked)
    smallest = min(max(1, round(SMALLEST_BLOCK_SHARE * side * side)), left)
    for area_u, aspect_u, top_u, left_u in generator.random((TRIES, 4)).tolist():
        area = smallest + (left - smallest) * area_u
        aspect = math.exp(LOG_ASPECT * (2 * aspect_u - 1))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (1 <= height <= side and 1 <= width <= side):
            continue
        top, start = int(top_u * (side - height + 1)), int(left_u * (side - width + 1))
        block = masked[top : top + height, start : start + width]
        new = block.size - int(block.sum())
        if 0 < new <= left:
            block[:] = True
            return new
    return 0
