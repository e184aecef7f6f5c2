"""Hue, saturation and brightness as one matrix an image, which takes an RGB pixel to its new colour.

Hue turns about the grey axis of the RGB cube. A third of a turn then swaps the channels, as it does in HSV; a turn of
YIQ's chroma does not, and is further off at every angle.

Letters: B images of a batch; matrices are [B, 3, 3], rows for the new channels.
"""

import numpy as np
from numpy.typing import NDArray

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])
"""Shares of red, green and blue in the grey image (ITU-R BT.601)."""


def colour_matrices(
    hue: NDArray[np.float32], saturation: NDArray[np.float32], brightness: NDArray[np.float32]
) -> NDArray[np.float32]:
    """[B, 3, 3]: ``hue`` in degrees turns first, then ``saturation`` and ``brightness`` (factors [B]) scale.

    Without change it is the identity to the last bit; saturation 0 puts the weighted grey into all three channels.
    """
    grey = np.tile(GREY_WEIGHTS, (3, 1))
    s = _per_matrix(saturation)
    matrices: NDArray[np.float64] = (s * np.eye(3) + (1 - s) * grey) @ _turns(np.deg2rad(_per_matrix(hue)))
    return (_per_matrix(brightness) * matrices).astype(np.float32)


def _turns(radians: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations about the axis on which red, green and blue are equal; red goes towards green."""
    mean = np.full((3, 3), 1 / 3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turns: NDArray[np.float64] = np.cos(radians) * np.eye(3) + (1 - np.cos(radians)) * mean + np.sin(radians) * across
    return turns


def _per_matrix(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return values.astype(np.float64)[:, None, None]
