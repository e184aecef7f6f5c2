"""The field that noise is cut from."""

import numpy as np
import pytest

from issl_engine.views.noise_field import NUM_STARTS, NoiseField


def test_the_noise_field_is_normal_and_depends_on_the_seed_alone() -> None:
    small, large, other = (NoiseField(seed, size) for seed, size in ((3, 16), (3, 64), (4, 16)))
    starts = np.array([0, 1000, NUM_STARTS - 1])
    windows = small.windows(starts, 16, 3)
    assert (windows.dtype, windows.shape) == (np.int8, (3, 16, 16, 3))
    np.testing.assert_array_equal(windows, large.windows(starts, 16, 3))
    assert not np.array_equal(windows, other.windows(starts, 16, 3))
    many = large.windows(np.arange(0, 400) * 10_000, 64, 1) / 32
    assert (many.mean(), many.std()) == pytest.approx((0, 1), abs=0.01)
    assert (abs(many) < 1).mean() == pytest.approx(0.6827, abs=0.02)
    assert (abs(many) > 2).mean() == pytest.approx(0.0455, abs=0.005)
    assert abs(np.corrcoef(many[:, :, 1:].ravel(), many[:, :, :-1].ravel())[0, 1]) < 0.005
