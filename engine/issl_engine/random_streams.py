"""Counter-based random numbers: one Philox stream per purpose, so that a new use leaves the others as they are."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from issl_engine.mistakes import Mistake

WORDS_PER_COUNTER = 4


class Purpose(IntEnum):
    """A byte of the key. Streams of published results: never renumber one.

    An augmentation that comes later names a number of its own in its file, from ``FIRST_OWN_PURPOSE`` on.
    """

    ORDER = 0
    VIEWS = 1
    ROTATION = 2
    JITTER_ORDER = 3
    POLICY = 4
    NOISE = 5
    NOISE_FIELD = 6
    OPERATORS = 7
    MASKS = 8
    CORRUPTION = 9


FIRST_OWN_PURPOSE = 128


def stream_key(seed: int, epoch: int, purpose: int) -> int:
    """Philox's 128 bits: the seed in the upper half, then the epoch, and a byte that keeps streams apart.

    Raises Mistake for a seed out of range.
    """
    assert 0 <= purpose < 256, f"purpose {purpose} is no byte"
    if not 0 <= seed < 2**64:
        raise Mistake(f"seed: {seed} is out of range; choose a whole number from 0 to 2^64 - 1")
    return (seed << 64) | (epoch << 8) | purpose


def epoch_order(num_images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The permutation of all images in this epoch. Raises Mistake for a seed out of range."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, epoch, Purpose.ORDER))).permutation(num_images)


def uniforms(
    rows: int, columns: int, *, seed: int, epoch: int, first_position: int, purpose: int
) -> NDArray[np.float64]:
    """[rows, columns] numbers in [0, 1); row r depends on position first_position + r only."""
    counters = -(-columns // WORDS_PER_COUNTER)
    generator = np.random.Philox(key=stream_key(seed, epoch, purpose)).advance(first_position * counters)
    words = generator.random_raw(rows * counters * WORDS_PER_COUNTER).reshape(rows, -1)[:, :columns]
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
