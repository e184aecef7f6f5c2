"""The crop: where its window lies, and how it is resized."""

import numpy as np
import pytest
from PIL import Image

from issl_engine.views.augmentations.crop import ATTEMPTS, Crop, crop_windows

from .drawn_crops import MANY, assert_close, configure, made, smooth_pixels


def windows(
    height: int, width: int, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    uniforms = np.random.default_rng(0).random((MANY, 2 * ATTEMPTS + 2))
    sizes_HW = np.tile(np.array([[height, width]], dtype=np.int32), (MANY, 1))
    return crop_windows(sizes_HW, area, ratio, uniforms)


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
    assert share.mean() == pytest.approx(0.4, abs=4 * 0.4 / np.sqrt(12 * MANY))
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
        assert np.sum((counts - MANY / (room + 1)) ** 2) / (MANY / (room + 1)) < room + 5 * np.sqrt(2 * room)


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
    reference = np.array([reference_window(rng, 30, 90, (0.3, 1.0), (3 / 4, 4 / 3)) for _ in range(MANY)], dtype=float)
    ours = end - start
    for side in (0, 1):
        # Kolmogorov-Smirnov, two samples: 1.95 is the 0.1 % point
        grid = np.unique(reference[:, side])
        ours_below = np.searchsorted(np.sort(ours[:, side]), grid, side="right") / MANY
        reference_below = np.searchsorted(np.sort(reference[:, side]), grid, side="right") / MANY
        assert abs(ours_below - reference_below).max() < 1.95 * np.sqrt(2 / MANY)


def test_without_augmentation_a_whole_crop_is_the_image() -> None:
    crops, images, _ = made(smooth_pixels(), configure())
    assert_close(crops, images, 1e-3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "area"), [(8, (0.1, 0.9)), (16, (0.3, 1.0)), (32, (0.05, 0.3))])
def test_crops_are_the_antialiased_resize_of_their_windows(
    interpolation: str, size: int, area: tuple[float, float]
) -> None:
    """Within 2 levels on average over all crops, and within 3 at every pixel away from the crops' edges.

    At the edges DALI's filter reaches beyond the window, and Pillow's does not.
    """
    views = configure(size=size, area=area, interpolation=interpolation)
    crops, images, batch = made(smooth_pixels(32, 48, 64), views)
    (group,) = views.groups
    crop_of = Crop(size=size, area=area, ratio=group.ratio, interpolation=views.interpolation)
    draws = crop_of.draw(batch)
    filter_ = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.BICUBIC
    means = []
    for crop, image, start, end in zip(crops, images, draws.start_HW, draws.end_HW, strict=True):
        (top, left), (bottom, right) = start.astype(int), end.astype(int)
        window = Image.fromarray(image[top:bottom, left:right].astype(np.uint8))
        difference = abs(crop - np.asarray(window.resize((size, size), filter_)))
        means.append(difference.mean())
        scale = max(1.0, size / min(bottom - top, right - left))
        edge = int(np.ceil((1 if interpolation == "bilinear" else 2) * scale))
        assert difference[edge:-edge, edge:-edge].max() <= 3
    assert np.mean(means) <= 2
