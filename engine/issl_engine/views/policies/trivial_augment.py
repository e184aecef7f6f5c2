"""TrivialAugment: one operation per image, of any magnitude."""

from typing import Literal

import numpy as np

from issl_engine.views.augmentations.base import Uniforms
from issl_engine.views.augmentations.policy import LARGEST_MAGNITUDE, Policy, Ranges


class TrivialAugment(Policy):
    """TrivialAugment, wide (Müller & Hutter 2021): one operation an image, of a magnitude drawn from 0 to 30.

    Shear to 0.99, shift to 32 px of the crop, rotation to 135 degrees, colour factors to 1 ± 0.99, 8 to 2 bits.
    """

    name: Literal["trivial_augment"]

    @property
    def num_steps(self) -> int:
        return 1

    def magnitudes(self, first: Uniforms, second: Uniforms) -> Uniforms:
        return np.floor(first * (LARGEST_MAGNITUDE + 1))

    def ranges(self, size: int) -> Ranges:
        return Ranges(shear=0.99, shift_px=32, degrees=135, colour=0.99, bits=6)

    def strength(self) -> str:
        return "1 of any magnitude"
