"""A warp of an image, written independently of the loader's."""

import numpy as np

from .drawn_crops import SIDE, Pixels


def warped(image: Pixels, x_of_source: Pixels, y_of_source: Pixels, fill: float) -> Pixels:
    """Bilinear between pixel centres at whole numbers plus a half; ``fill`` beyond the image."""
    framed = np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=fill)
    x, y = (np.clip(place + 0.5, 0, SIDE + 1 - 1e-9) for place in (x_of_source, y_of_source))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right_share, lower_share = (x - left)[..., None], (y - top)[..., None]
    upper = framed[top, left] * (1 - right_share) + framed[top, left + 1] * right_share
    lower = framed[top + 1, left] * (1 - right_share) + framed[top + 1, left + 1] * right_share
    return upper * (1 - lower_share) + lower * lower_share


def centres() -> tuple[Pixels, Pixels]:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return x, y
