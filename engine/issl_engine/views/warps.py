"""Matrices [B, 3, 3] that lead from a pixel of the result to the one of the crop that it shows.

Pixels count from the upper left corner, x to the right and y down; the first pixel's centre is (0.5, 0.5).
"""

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def _identities(count: int) -> Doubles:
    return np.tile(np.eye(3), (count, 1, 1))


def shear_matrices(x: Doubles, y: Doubles) -> Doubles:
    """Rows are shifted by ``x`` times their y, columns by ``y`` times their x."""
    matrices = _identities(len(x))
    matrices[:, 0, 1], matrices[:, 1, 0] = x, y
    return matrices


def translation_matrices(x_px: Doubles, y_px: Doubles) -> Doubles:
    """The picture moves ``x_px`` to the right and ``y_px`` down."""
    matrices = _identities(len(x_px))
    matrices[:, 0, 2], matrices[:, 1, 2] = -x_px, -y_px
    return matrices


def rotation_matrices(degrees: Doubles, size: int) -> Doubles:
    """The picture of ``size`` px turns anticlockwise about its centre."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    centre = size / 2
    matrices = _identities(len(degrees))
    matrices[:, 0, 0], matrices[:, 0, 1] = cosine, -sine
    matrices[:, 1, 0], matrices[:, 1, 1] = sine, cosine
    matrices[:, 0, 2] = centre * (1 - cosine + sine)
    matrices[:, 1, 2] = centre * (1 - cosine - sine)
    return matrices
