"""The random numbers of augmentation: their ranges, their distribution, and what they depend on."""

import hashlib
from dataclasses import fields

import numpy as np
import pytest

from issl_engine.random_streams import epoch_order
from issl_engine.views.config import Augmentation, Blur, ColourJitter, CropGroup, Solarise, ViewsConfig
from issl_engine.views.draws import ATTEMPTS, ViewDraws, crop_windows, draw_views

N = 10_000
ALL_ON = Augmentation(
    flip=0.3,
    colour_jitter=ColourJitter(probability=0.6, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1),
    greyscale=0.25,
    blur=Blur(probability=0.7, sigma=(0.5, 2.0)),
    solarise=Solarise(probability=0.2),
)

DIGESTS = {
    "start_HW": "1edea8f34259",
    "end_HW": "ff564e3e4412",
    "flip": "8c7bf25b08c6",
    "hue": "26f44d855749",
    "saturation": "8d45bd66f7ae",
    "contrast": "08cb964b7c8c",
    "brightness": "eff28a223d54",
    "brightness_first": "f051b910a56c",
    "sigma": "29f03535bcc3",
    "solarise": "99426c7614f7",
}


def one_group(augmentation: Augmentation = ALL_ON, count: int = 2) -> ViewsConfig:
    return ViewsConfig(
        groups=(CropGroup(count=count, size=16, area=(0.08, 1.0)),),
        num_global_views=count,
        augmentation=augmentation,
    )


def draw(positions: int = N, first: int = 0, seed: int = 0, epoch: int = 0) -> list[ViewDraws]:
    sizes_HW = np.tile(np.array([[48, 64]], dtype=np.int32), (positions, 1))
    return draw_views(one_group(), sizes_HW, seed=seed, epoch=epoch, first_position=first)


def windows(
    height: int, width: int, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    uniforms = np.random.default_rng(0).random((N, 2 * ATTEMPTS + 2))
    sizes_HW = np.tile(np.array([[height, width]], dtype=np.int32), (N, 1))
    return crop_windows(sizes_HW, area, ratio, uniforms)


def test_a_position_gets_the_same_draws_in_any_batch() -> None:
    whole = draw(12)
    parts = [draw(4, first) for first in (0, 4, 8)]
    for view, draws in enumerate(whole):
        for field in fields(ViewDraws):
            joined = np.concatenate([getattr(part[view], field.name) for part in parts])
            np.testing.assert_array_equal(getattr(draws, field.name), joined, err_msg=field.name)


def test_seed_epoch_view_and_position_each_change_the_draws() -> None:
    base = draw(50)
    assert not np.array_equal(base[0].hue, draw(50, seed=1)[0].hue)
    assert not np.array_equal(base[0].hue, draw(50, epoch=1)[0].hue)
    assert not np.array_equal(base[0].hue, base[1].hue)
    assert len(np.unique(base[0].start_HW + 100 * base[0].end_HW, axis=0)) > 40


def test_an_epochs_order_is_a_permutation_that_seed_and_epoch_change() -> None:
    first = epoch_order(500, seed=3, epoch=0)
    assert sorted(first) == list(range(500))
    np.testing.assert_array_equal(first, epoch_order(500, seed=3, epoch=0))
    for other in (epoch_order(500, seed=3, epoch=1), epoch_order(500, seed=4, epoch=0)):
        assert (first == other).mean() < 0.05


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"seed: {seed} is out of range"):
        epoch_order(4, seed=seed, epoch=0)


def test_probabilities_are_the_shares_of_images() -> None:
    draws = draw()[0]
    tolerance = 4 * np.sqrt(0.25 / N)
    jittered = draws.hue != 0
    assert draws.flip.mean() == pytest.approx(0.3, abs=tolerance)
    assert jittered.mean() == pytest.approx(0.6, abs=tolerance)
    assert (draws.saturation == 0).mean() == pytest.approx(0.25, abs=tolerance)
    assert (draws.sigma > 0).mean() == pytest.approx(0.7, abs=tolerance)
    assert draws.solarise.mean() == pytest.approx(0.2, abs=tolerance)
    assert (draws.flip & draws.solarise).mean() == pytest.approx(0.06, abs=tolerance)
    np.testing.assert_array_equal(draws.brightness != 1, jittered)


def test_factors_fill_their_ranges_evenly() -> None:
    draws = draw()[0]
    jittered = draws.hue != 0
    grey = draws.saturation == 0
    for values, low, high in (
        (draws.brightness[jittered], 0.6, 1.4),
        (draws.contrast[jittered], 0.0, 2.5),
        (draws.saturation[jittered & ~grey], 0.8, 1.2),
        (draws.hue[jittered], -36.0, 36.0),
        (draws.sigma[draws.sigma > 0], 0.5, 2.0),
    ):
        room = high - low
        assert low - 1e-5 <= values.min() < low + 0.01 * room
        assert high - 0.01 * room < values.max() <= high + 1e-5
        assert values.mean() == pytest.approx((low + high) / 2, abs=4 * room / np.sqrt(12 * len(values)))


def test_the_order_of_brightness_and_contrast_is_tossed_for_each_image_and_view() -> None:
    first, second = draw()
    assert first.brightness_first.mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / N))
    assert (first.brightness_first == second.brightness_first).mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / N))
    assert (first.brightness_first == first.flip).mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / N))
    for other in (draw(seed=1)[0], draw(epoch=1)[0]):
        same = (first.brightness_first == other.brightness_first).mean()
        assert same == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / N))


def test_no_draw_changes_from_one_version_to_the_next() -> None:
    """A run that goes on under a newer version sees the crops that it would have seen."""
    drawn = draw(2000, first=7, seed=3, epoch=2)
    for name, digest in DIGESTS.items():
        joined = b"".join(np.ascontiguousarray(getattr(draws, name)).tobytes() for draws in drawn)
        assert hashlib.sha256(joined).hexdigest()[:12] == digest, name


def test_nothing_is_drawn_for_parts_that_are_off() -> None:
    off = Augmentation(flip=0, colour_jitter=None, greyscale=0)
    (draws,) = draw_views(one_group(off, count=1), np.full((64, 2), 32, np.int32), seed=0, epoch=0, first_position=0)
    assert not draws.flip.any()
    assert not draws.solarise.any()
    assert not draws.hue.any()
    assert not draws.sigma.any()
    for factor in (draws.brightness, draws.contrast, draws.saturation):
        assert (factor == 1).all()


def test_windows_follow_the_area_and_the_ratio() -> None:
    start, end = windows(200, 200, (0.2, 0.6), (3 / 4, 4 / 3))
    height, width = (end - start).T
    share = height * width / 200**2
    assert (start >= 0).all()
    assert (end <= 200).all()
    assert (start == np.rint(start)).all()
    assert (end == np.rint(end)).all()
    # sides are rounded to whole pixels: half a pixel of some 90
    assert share.min() >= 0.2 * 0.98
    assert share.max() <= 0.6 * 1.02
    assert share.mean() == pytest.approx(0.4, abs=4 * 0.4 / np.sqrt(12 * N))
    log_ratio = np.log(width / height)
    assert abs(log_ratio).max() <= np.log(4 / 3) + 0.02
    assert log_ratio.mean() == pytest.approx(0, abs=0.01)
    assert log_ratio.std() == pytest.approx(2 * np.log(4 / 3) / np.sqrt(12), rel=0.03)


def test_windows_lie_evenly_over_the_room_there_is() -> None:
    start, end = windows(60, 90, (0.25, 0.25), (1.0, 1.0))
    np.testing.assert_array_equal(np.unique(end - start), [37.0])  # sqrt(0.25 * 60 * 90) = 36.7
    for places, room in ((start[:, 0], 60 - 37), (start[:, 1], 90 - 37)):
        counts = np.bincount(places.astype(int), minlength=room + 1)
        assert len(counts) == room + 1
        assert np.sum((counts - N / (room + 1)) ** 2) / (N / (room + 1)) < room + 5 * np.sqrt(2 * room)


@pytest.mark.parametrize(
    ("height", "width", "ratio", "expected_start", "expected_end"),
    [
        (20, 200, (3 / 4, 4 / 3), (0, 86), (20, 113)),
        (200, 20, (3 / 4, 4 / 3), (86, 0), (113, 20)),
        (30, 30, (1.1, 1.2), (1, 0), (28, 30)),
        (90, 90, (3 / 4, 4 / 3), (0, 0), (90, 90)),
    ],
)
def test_where_no_window_fits_the_largest_central_one_is_taken(
    height: int,
    width: int,
    ratio: tuple[float, float],
    expected_start: tuple[int, int],
    expected_end: tuple[int, int],
) -> None:
    """The whole area with a ratio other than the image's own: every try fails (nearly, for the square)."""
    start, end = windows(height, width, (1.0, 1.0), ratio)
    fell_back = (start == expected_start).all(axis=1) & (end == expected_end).all(axis=1)
    assert fell_back.mean() > (0.99 if ratio[0] > 1 or height != width else 0.8)


def reference_window(
    rng: np.random.Generator, height: int, width: int, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int]:
    """Height and width of one crop, drawn image by image as torchvision documents it."""
    for _ in range(10):
        target = rng.uniform(*area) * height * width
        aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        w, h = round(np.sqrt(target * aspect)), round(np.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return h, w
    aspect = width / height
    if aspect < ratio[0]:
        return round(width / ratio[0]), width
    if aspect > ratio[1]:
        return height, round(height * ratio[1])
    return height, width


def test_window_sizes_are_distributed_as_the_reference_draws_them() -> None:
    """An image so flat that many tries fail and some windows fall back."""
    start, end = windows(30, 90, (0.3, 1.0), (3 / 4, 4 / 3))
    rng = np.random.default_rng(1)
    reference = np.array([reference_window(rng, 30, 90, (0.3, 1.0), (3 / 4, 4 / 3)) for _ in range(N)], dtype=float)
    ours = end - start
    for side in (0, 1):
        # Kolmogorov-Smirnov, two samples: 1.95 is the 0.1 % point
        grid = np.unique(reference[:, side])
        ours_below = np.searchsorted(np.sort(ours[:, side]), grid, side="right") / N
        reference_below = np.searchsorted(np.sort(reference[:, side]), grid, side="right") / N
        assert abs(ours_below - reference_below).max() < 1.95 * np.sqrt(2 / N)
