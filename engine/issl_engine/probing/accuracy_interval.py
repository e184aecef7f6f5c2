"""How far top-1 would move with other test images."""

import numpy as np

RESAMPLES = 10_000


def accuracy_interval(num_correct: int, num_images: int, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of top-1, in percent.

    To draw n images with replacement and count the right ones is to draw from a binomial distribution.
    """
    drawn = np.random.default_rng(seed).binomial(num_images, num_correct / num_images, RESAMPLES)
    low, high = np.percentile(100 * drawn / num_images, [2.5, 97.5])
    return float(low), float(high)
