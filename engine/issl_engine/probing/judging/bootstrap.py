"""Percentile bootstrap over the judged images (Efron and Tibshirani 1993, chapter 13).

Letters: N images, R resamples, K statistics.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
BLOCK_ELEMENTS = 2**23
"""Largest block of counts, resamples x images (64 MiB)."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def share_interval(correct: int, count: int, seed: int) -> tuple[float, float]:
    """Of the share of right answers, in percent.

    Of ``count`` images drawn with replacement, the number of right ones is binomial: the resamples are drawn as such.
    """
    drawn_R = np.random.default_rng(seed).binomial(count, correct / count, size=RESAMPLES)
    return percentiles(100 * drawn_R / count)


def mean_share_interval(right_C: Ints, images_C: Ints, seed: int) -> tuple[float, float]:
    """Of the mean over classes of each class's share of right answers, in percent.

    Of the images drawn with replacement, the numbers of right and wrong ones of each class are multinomial. A class of
    which a resample holds no image is left out of its mean.
    """
    cells = np.concatenate([right_C, images_C - right_C])
    drawn_RK = np.random.default_rng(seed).multinomial(cells.sum(), cells / cells.sum(), size=RESAMPLES)
    right_RC, wrong_RC = np.split(drawn_RK, 2, axis=1)
    images_RC = right_RC + wrong_RC
    shares_RC = np.where(images_RC > 0, right_RC / np.maximum(images_RC, 1), np.nan)
    return percentiles(100 * mean_of_existing(shares_RC, axis=1))


def mean_interval(statistics_NK: Floats, metric: Callable[[Floats], Floats], seed: int) -> tuple[float, float]:
    """Of a metric that follows from the means of K statistics over images: ``metric`` maps [r, k] to [r]."""
    means = [counts_RN @ statistics_NK / len(statistics_NK) for counts_RN in resamples(len(statistics_NK), seed)]
    return percentiles(metric(np.concatenate(means)))


def resamples(count: int, seed: int) -> Iterator[Floats]:
    """How often each of ``count`` images is drawn, [r, n] float64, block by block; RESAMPLES rows in all."""
    random = np.random.default_rng(seed)
    size = max(1, BLOCK_ELEMENTS // count)
    for start in range(0, RESAMPLES, size):
        rows = min(size, RESAMPLES - start)
        drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def percentiles(values_R: Floats) -> tuple[float, float]:
    """The ends of the middle 95 %; resamples in which the metric does not exist (NaN) count for nothing."""
    low, high = np.nanpercentile(values_R, (2.5, 97.5))
    return float(low), float(high)


def mean_of_existing(values: Floats, axis: int) -> Floats:
    """The mean over ``axis`` of values that exist (are not NaN); NaN where none does."""
    exists = ~np.isnan(values)
    count = exists.sum(axis)
    return np.where(count > 0, np.where(exists, values, 0).sum(axis) / np.maximum(count, 1), np.nan)
