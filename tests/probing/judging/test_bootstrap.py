"""Intervals: the right width, for metrics of every kind, and the same for a seed."""

import numpy as np
import pytest

from issl_engine.probing.judging.bootstrap import RESAMPLES, mean_interval, resamples, share_interval


def test_the_interval_of_a_share_has_the_binomials_width() -> None:
    low, high = share_interval(700, 1000, seed=0)
    half = 100 * 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert (low, high) == pytest.approx((70 - half, 70 + half), abs=0.35)
    assert share_interval(700, 1000, seed=0) == (low, high)
    assert share_interval(1000, 1000, seed=0) == (100, 100)


def test_counts_give_the_share_the_same_interval() -> None:
    correct_N1 = (np.arange(400) < 280).astype(np.float64)[:, None]
    found = mean_interval(correct_N1, lambda means_RK: 100 * means_RK[:, 0], seed=1)
    assert found == pytest.approx(share_interval(280, 400, seed=2), abs=0.8)


def test_the_interval_of_a_ratio_is_that_of_resampled_images() -> None:
    random = np.random.default_rng(0)
    a_N, b_N = random.random(50) + 1, random.random(50) + 2
    found = mean_interval(np.stack([a_N, b_N], axis=1), lambda means_RK: means_RK[:, 0] / means_RK[:, 1], seed=0)
    drawn = random.integers(50, size=(20000, 50))
    ratios = a_N[drawn].mean(1) / b_N[drawn].mean(1)
    assert found == pytest.approx(tuple(np.percentile(ratios, (2.5, 97.5))), abs=0.006)


def test_every_resample_draws_as_many_images_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issl_engine.probing.judging.bootstrap.BLOCK_ELEMENTS", 70)
    blocks = list(resamples(10, seed=0))
    assert max(map(len, blocks)) == 7
    counts_RN = np.concatenate(blocks)
    assert counts_RN.shape == (RESAMPLES, 10)
    assert (counts_RN.sum(1) == 10).all()
    assert counts_RN.mean(0) == pytest.approx(np.ones(10), abs=0.1)
    assert counts_RN.var(0) == pytest.approx(np.full(10, 0.9), abs=0.15)  # binomial: 10 draws with probability 1/10
