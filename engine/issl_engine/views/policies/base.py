"""What every policy has: its operations, and how strong each is.

Letters: B images of a batch.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from issl_engine.config import Config
from issl_engine.mistakes import Mistake

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


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """What each operation does at the largest magnitude.

    ``shear`` as a slope; ``colour``: how far from 1 the factors of brightness, colour, contrast and sharpness are;
    ``bits``: how many posterise takes away.
    """

    shear: float
    shift_px: float
    degrees: float
    colour: float
    bits: int


class Policy(Config):
    """Subclasses add their ``name``, and say how many operations an image gets and how strong they are."""

    name: str
    operations: tuple[Operation, ...] = ALL_OPERATIONS
    """The operations to draw from, each as likely as the others."""
    fill: Annotated[int, Field(ge=0, le=255)] = 0
    """Grey level of what geometry uncovers."""

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """Operations an image, one after the other."""

    @abstractmethod
    def magnitudes(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        """[B] magnitudes from 0 to 30, made of two uniform numbers an image."""

    @abstractmethod
    def ranges(self, size: int) -> Ranges:
        """For a crop of ``size`` px."""

    @abstractmethod
    def strength(self) -> str:
        """The number and magnitude of the operations, in words."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if not self.operations:
            raise Mistake("operations is empty; name at least one, or set the policy to null")
        if twice := sorted({name for name in self.operations if self.operations.count(name) > 1}):
            raise Mistake(f"operations has {', '.join(twice)} more than once; name each operation once")
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
