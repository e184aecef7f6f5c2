"""Augmentation policies: a few operations an image, drawn at random from a list.

The operations and their ranges are those of the papers, as torchvision has them. Where DALI's pixels differ from
torchvision's: geometry is bilinear (there the nearest pixel by default), sharpness mirrors the crop's edge (there
the outermost pixels stay), equalise takes OpenCV's formula (there Pillow's).
"""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from issl_engine.config import Config

Operation = Literal[
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "colour", "contrast",
    "sharpness", "posterise", "solarise", "auto_contrast", "equalise",
]  # fmt: skip
ALL_OPERATIONS: tuple[Operation, ...] = get_args(Operation)
LARGEST_MAGNITUDE = 30
GEOMETRY: tuple[Operation, ...] = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
WITH_MATRIX: tuple[Operation, ...] = (*GEOMETRY, "sharpness")
WITH_VALUE: tuple[Operation, ...] = ("brightness", "colour", "contrast", "posterise", "solarise")
"""What an operation needs to know of an image beside its name; auto_contrast and equalise need neither."""


class Policy(Config):
    """What every policy has."""

    operations: Annotated[tuple[Operation, ...], Field(min_length=1)] = ALL_OPERATIONS
    """The operations to draw from, each as likely as the others."""
    fill: Annotated[int, Field(ge=0, le=255)] = 0
    """Grey level of what geometry uncovers."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if twice := sorted({name for name in self.operations if self.operations.count(name) > 1}):
            raise ValueError(f"operations has {', '.join(twice)} more than once; name each operation once")
        return self

    def effective(self, channels: int) -> set[Operation]:
        """The operations that change an image of so many channels: one channel has no colour."""
        return set(self.operations) - {"identity"} - ({"colour"} if channels == 1 else set())

    def step_inputs(self, channels: int) -> tuple[str, ...]:
        """Which fields of a PolicyStep the graph reads, in this order."""
        effective = self.effective(channels)
        return (
            *(("operation",) if effective else ()),
            *(("value",) if effective & {*WITH_VALUE} else ()),
            *(("matrix",) if effective & {*WITH_MATRIX} else ()),
        )


class RandAugment(Policy):
    """RandAugment (Cubuk et al. 2020): some operations an image, one after the other, all of one magnitude."""

    name: Literal["rand_augment"]
    num_ops: Annotated[int, Field(ge=1, le=8)] = 2
    """Operations an image."""
    magnitude: Annotated[float, Field(ge=0, le=LARGEST_MAGNITUDE)] = 9
    """Strength, from 0 (weakest) to 30: shear to 0.3, shift to 150/331 of the side, rotation to 30 degrees, colour
    factors to 1 ± 0.9, 8 to 4 bits."""
    magnitude_std: Annotated[float, Field(ge=0, le=LARGEST_MAGNITUDE)] = 0
    """Standard deviation of a magnitude drawn anew for each operation and kept within 0 to 30; 0 for none."""


class TrivialAugment(Policy):
    """TrivialAugment, wide (Müller & Hutter 2021): one operation an image, of a magnitude drawn from 0 to 30.

    Shear to 0.99, shift to 32 px of the crop, rotation to 135 degrees, colour factors to 1 ± 0.99, 8 to 2 bits.
    """

    name: Literal["trivial_augment"]


AnyPolicy = Annotated[RandAugment | TrivialAugment, Field(discriminator="name")]
