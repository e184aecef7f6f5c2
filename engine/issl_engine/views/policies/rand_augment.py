"""RandAugment: some operations per image, all of one magnitude."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from issl_engine.views.augmentations.base import Uniforms
from issl_engine.views.augmentations.policy import LARGEST_MAGNITUDE, Policy, Ranges


class RandAugment(Policy):
    """RandAugment (Cubuk et al. 2020): some operations an image, one after the other, all of one magnitude."""

    name: Literal["rand_augment"]
    num_ops: Annotated[int, Field(ge=1, le=8)] = 2
    """Operations per image."""
    magnitude: Annotated[float, Field(ge=0, le=LARGEST_MAGNITUDE)] = 9
    """Strength, from 0 (weakest) to 30: shear to 0.3, shift to 150/331 of the side, rotation to 30 degrees, colour
    factors to 1 ± 0.9, 8 to 4 bits."""
    magnitude_std: Annotated[float, Field(ge=0, le=LARGEST_MAGNITUDE)] = 0
    """Standard deviation of a magnitude drawn anew for each operation and kept within 0 to 30; 0 for none."""

    @property
    def num_steps(self) -> int:
        return self.num_ops

    def magnitudes(self, first: Uniforms, second: Uniforms) -> Uniforms:
        # Box and Muller's normal number; 1 - u is never 0.
        normal = np.sqrt(-2 * np.log(1 - first)) * np.cos(2 * np.pi * second)
        drawn: Uniforms = np.clip(self.magnitude + self.magnitude_std * normal, 0, LARGEST_MAGNITUDE)
        return drawn

    def ranges(self, size: int) -> Ranges:
        return Ranges(shear=0.3, shift_px=size * 150 / 331, degrees=30, colour=0.9, bits=4)

    def strength(self) -> str:
        deviation = f" ± {self.magnitude_std:g}" if self.magnitude_std else ""
        return f"{self.num_ops} of magnitude {self.magnitude:g}{deviation}"
