"""Which operation of a policy each image gets, and what the graph needs to carry it out.

Letters: B images of a batch, U uniform numbers an operation and image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from issl_engine.views.policies.base import ALL_OPERATIONS, LARGEST_MAGNITUDE, Policy, Ranges
from issl_engine.views.warps import rotation_matrices, shear_matrices, translation_matrices

Floats = NDArray[np.float32]
UNIFORMS_PER_STEP = 4
"""Operation, magnitude (two, for a normal number), sign."""
SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
"""Pillow's smoothing filter, from which sharpness moves away."""
SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "colour", "contrast", "sharpness")


@dataclass(frozen=True, kw_only=True)
class PolicyStep:
    """One operation of each image.

    ``operation`` int32 [B], a place in ALL_OPERATIONS. ``value`` [B]: the factor of brightness, colour and contrast;
    the kept bits of posterise as a mask (240 keeps the upper four); the threshold of solarise. ``matrix`` [B, 3, 3]:
    from a pixel of the result to one of the crop, for geometry; the filter, for sharpness.
    """

    operation: NDArray[np.int32]
    value: Floats
    matrix: Floats


def draw_step(policy: Policy, size: int, uniforms_BU: NDArray[np.float64]) -> PolicyStep:
    """One operation for each of B crops of ``size`` px."""
    chosen, first, second, signs = uniforms_BU.T[:4]
    operations = np.array([ALL_OPERATIONS.index(name) for name in policy.operations], dtype=np.int32)
    operation = operations[np.floor(chosen * len(operations)).astype(int)]
    share = policy.magnitudes(first, second) / LARGEST_MAGNITUDE
    sign = np.where(signs < 0.5, -1.0, 1.0)
    ranges = policy.ranges(size)
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
    return PolicyStep(operation=operation, value=value.astype(np.float32), matrix=matrix.astype(np.float32))


def _geometry(name: str, amount: NDArray[np.float64], ranges: Ranges, size: int) -> NDArray[np.float64]:
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
