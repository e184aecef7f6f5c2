"""One long field of normal numbers; a crop's noise is a window of it.

DALI's own noise has one seed per pipeline, so that a resumed run would see other noise. Making fresh normal numbers for
each crop costs more than blurring it; copying a window costs next to nothing, and within one crop the numbers are as
independent.

Letters: B images of a batch, C channels.
"""

import numpy as np
from numpy.typing import NDArray

from issl_engine.random_streams import Purpose, stream_key

NUM_STARTS = 2**22
"""Places where a window may begin."""
STEPS_PER_STD = 32
"""The field is in whole 32nds of a standard deviation, so that it fits a signed byte up to four of them."""


def first_places(uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where windows begin [B], of one number in [0, 1) each."""
    return np.floor(uniform * NUM_STARTS).astype(np.int64)


class NoiseField:
    """The field of one seed, long enough for windows of ``largest_size`` px: int8, in 32nds of a standard deviation."""

    def __init__(self, seed: int, largest_size: int) -> None:
        generator = np.random.Generator(np.random.Philox(key=stream_key(seed, 0, Purpose.NOISE_FIELD)))
        normals = generator.standard_normal(NUM_STARTS + 3 * largest_size**2, dtype=np.float32)
        self._field = np.clip(np.rint(normals * STEPS_PER_STD), -127, 127).astype(np.int8)

    def windows(self, starts: NDArray[np.int64], size: int, channels: int) -> NDArray[np.int8]:
        """[B, size, size, C], a copy."""
        length = size * size * channels
        return np.stack([self._field[start : start + length] for start in starts]).reshape(-1, size, size, channels)
