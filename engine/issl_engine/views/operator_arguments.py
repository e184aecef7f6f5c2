"""Which operators an augmentation needs, and the draws that they take, in the graph's order.

Operators that would never change a pixel are left out of the graph, and so are their arguments.

Letters: B images of a batch, C channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from issl_engine.views.colour_matrix import colour_matrices
from issl_engine.views.config import Augmentation
from issl_engine.views.draws import ViewDraws

NEVER = 256
"""A solarisation threshold that no pixel reaches."""


def operator_arguments(draw: ViewDraws, augmentation: Augmentation, channels: int) -> list[NDArray[Any]]:
    """The draws that this augmentation's operators take, in the order in which the graph reads them."""
    arguments: list[NDArray[Any]] = [draw.start_HW, draw.end_HW, draw.flip.astype(np.int32)]
    contrasts = changes_contrast(augmentation)
    first = np.where(draw.brightness_first | (not contrasts), draw.brightness, np.float32(1))
    if changes_colour(augmentation, channels):
        # Hue and saturation do nothing to one channel.
        grey = first[:, None, None]
        arguments += [colour_matrices(draw.hue, draw.saturation, first) if channels == 3 else grey]
    if contrasts:
        arguments += [draw.contrast, np.where(draw.brightness_first, np.float32(1), draw.brightness)]
    if blurs(augmentation):
        arguments += [draw.sigma, _blur_window(draw.sigma)]
    if augmentation.solarise is not None and solarises(augmentation):
        arguments += [np.where(draw.solarise, augmentation.solarise.threshold, NEVER).astype(np.int16)]
    return arguments


def num_operator_arguments(augmentation: Augmentation, channels: int) -> int:
    colours = changes_colour(augmentation, channels) + 2 * changes_contrast(augmentation)
    return 3 + colours + 2 * blurs(augmentation) + solarises(augmentation)


def _blur_window(sigma: NDArray[np.float32]) -> NDArray[np.int32]:
    """Odd window of three standard deviations on each side; 1 leaves the image as it is."""
    return np.where(sigma > 0, 2 * np.ceil(3 * sigma) + 1, 1).astype(np.int32)


def changes_colour(augmentation: Augmentation, channels: int) -> bool:
    """By the matrix of hue, saturation and brightness."""
    jitter = augmentation.colour_jitter
    if jitter is not None and jitter.probability > 0:
        if jitter.brightness > 0:
            return True
        if channels == 3 and (jitter.saturation > 0 or jitter.hue > 0):
            return True
    return channels == 3 and augmentation.greyscale > 0


def changes_contrast(augmentation: Augmentation) -> bool:
    jitter = augmentation.colour_jitter
    return jitter is not None and jitter.probability > 0 and jitter.contrast > 0


def blurs(augmentation: Augmentation) -> bool:
    return augmentation.blur is not None and augmentation.blur.probability > 0


def solarises(augmentation: Augmentation) -> bool:
    return augmentation.solarise is not None and augmentation.solarise.probability > 0
