"""Operations of a policy (RandAugment, TrivialAugment): which one each image gets, and how strong it is.

``views/policies`` has the policies, one per file.

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
from issl_engine.random_streams import Purpose
from issl_engine.views.augmentations.base import Arrays, Columns, Floats, Transform, Uniforms, ViewBatch
from issl_engine.views.augmentations.rotation import Doubles, rotation_matrices

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
SIGNED: tuple[Operation, ...] = (*GEOMETRY, "brightness", "colour", "contrast", "sharpness")
"""These go either way, half of the images each."""

UNIFORMS_PER_STEP = 4
"""Operation, magnitude (two, for a normal number), sign."""
SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
"""Pillow's smoothing filter, from which sharpness moves away."""


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


@dataclass(frozen=True, kw_only=True)
class PolicyDraws:
    """One operation of each image.

    ``operation`` int32 [B], a place in ALL_OPERATIONS. ``value`` [B]: the factor of brightness, colour and contrast;
    the kept bits of posterise as a mask (240 keeps the upper four); the threshold of solarise. ``matrix`` [B, 3, 3]:
    from a pixel of the result to one of the crop, for geometry; the filter, for sharpness.
    """

    operation: NDArray[np.int32]
    value: Floats
    matrix: Floats


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
        """Operations per image, one after the other."""

    @abstractmethod
    def magnitudes(self, first: Uniforms, second: Uniforms) -> Uniforms:
        """[B] magnitudes from 0 to 30, made of two uniform numbers per image."""

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

    def steps(self) -> tuple["PolicyStep", ...]:
        """The operations, one after the other."""
        return tuple(PolicyStep(policy=self, index=index) for index in range(self.num_steps))

    def legend(self) -> str:
        """Its name, what it draws, and which operations if not all."""
        drawn = f"{self.name} ({self.strength()}"
        left_out = [name for name in ALL_OPERATIONS if name not in self.operations]
        if left_out and len(left_out) < len(self.operations):
            return f"{drawn}, all operations but {' '.join(left_out)})"
        return f"{drawn}, {' '.join(self.operations)})" if left_out else f"{drawn})"

    def draw(self, size: int, uniforms_BU: Uniforms) -> PolicyDraws:
        """One operation for each of B crops of ``size`` px."""
        chosen, first, second, signs = uniforms_BU.T
        operations = np.array([ALL_OPERATIONS.index(name) for name in self.operations], dtype=np.int32)
        operation = operations[np.floor(chosen * len(operations)).astype(int)]
        share = self.magnitudes(first, second) / LARGEST_MAGNITUDE
        sign = np.where(signs < 0.5, -1.0, 1.0)
        ranges = self.ranges(size)
        value, matrix = np.ones(len(share)), np.tile(np.eye(3), (len(share), 1, 1))
        for index in np.unique(operation):
            rows = operation == index
            name = ALL_OPERATIONS[index]
            amount = share[rows] * (sign[rows] if name in SIGNED else 1)
            if name in ("brightness", "colour", "contrast"):
                value[rows] = 1 + amount * ranges.colour
            elif name == "posterise":
                value[rows] = 256 - 2 ** np.rint(amount * ranges.bits)
            elif name == "solarise":
                value[rows] = 255 * (1 - amount)
            elif name == "sharpness":
                factor = (1 + amount * ranges.colour)[:, None, None]
                matrix[rows] = factor * np.diag([0, 1, 0]) + (1 - factor) * SMOOTHING
            else:
                matrix[rows] = _geometry(name, amount, ranges, size)
        return PolicyDraws(operation=operation, value=value.astype(np.float32), matrix=matrix.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class PolicyStep(Transform):
    """One operation per image, the ``index``-th of its policy, by which it takes its random numbers."""

    policy: Policy
    index: int

    @property
    def columns(self) -> tuple[Columns, ...]:
        first = UNIFORMS_PER_STEP * self.index
        return (Columns(purpose=Purpose.POLICY, first=first, count=UNIFORMS_PER_STEP),)

    def draw(self, batch: ViewBatch) -> PolicyDraws:
        return self.policy.draw(batch.size, batch.uniforms(*self.columns))

    def arrays(self, batch: ViewBatch) -> Arrays:
        """``operation``, ``value`` and ``matrix`` of PolicyDraws; None for what none of the operations reads."""
        draws, effective = self.draw(batch), self.policy.effective(batch.channels)
        return {
            "operation": draws.operation if effective else None,
            "value": draws.value if effective & {*WITH_VALUE} else None,
            "matrix": draws.matrix if effective & {*WITH_MATRIX} else None,
        }

    def legend(self) -> str:
        """The whole policy's, at its first step."""
        return self.policy.legend() if self.index == 0 else ""


def _geometry(name: str, amount: Doubles, ranges: Ranges, size: int) -> Doubles:
    """[B, 3, 3]; shears hold the upper left corner, as the papers' code does, shifts are whole pixels."""
    none = np.zeros(len(amount))
    if name == "shear_x":
        return shear_matrices(amount * ranges.shear, none)
    if name == "shear_y":
        return shear_matrices(none, amount * ranges.shear)
    if name == "translate_x":
        return translation_matrices(np.trunc(amount * ranges.shift_px), none)
    if name == "translate_y":
        return translation_matrices(none, np.trunc(amount * ranges.shift_px))
    return rotation_matrices(amount * ranges.degrees if name == "rotate" else none, size)


def shear_matrices(x: Doubles, y: Doubles) -> Doubles:
    """[B, 3, 3], as rotation_matrices. Rows are shifted by ``x`` times their y, columns by ``y`` times their x."""
    matrices = np.tile(np.eye(3), (len(x), 1, 1))
    matrices[:, 0, 1], matrices[:, 1, 0] = x, y
    return matrices


def translation_matrices(x_px: Doubles, y_px: Doubles) -> Doubles:
    """[B, 3, 3], as rotation_matrices. The picture moves ``x_px`` to the right and ``y_px`` down."""
    matrices = np.tile(np.eye(3), (len(x_px), 1, 1))
    matrices[:, 0, 2], matrices[:, 1, 2] = -x_px, -y_px
    return matrices
