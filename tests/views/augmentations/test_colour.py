"""Colour jitter and grey: the draws, the matrix of hue, saturation and brightness, and the pixels."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from issl_engine.loading.augmentations import colour as colour_graph
from issl_engine.views.augmentations.colour import Colour, ColourDraws, ColourJitter, colour_matrices
from issl_engine.views.augmentations.flip import Flip

from .drawn_crops import (
    MANY,
    NOTHING,
    SHARE,
    N,
    Pixels,
    assert_close,
    configure,
    luma,
    made,
    only,
    per_image,
    smooth_pixels,
    view_batch,
)

RED, GREEN, BLUE = np.eye(3)
COLOUR = Colour(ColourJitter(probability=0.6, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1), greyscale=0.25)


def test_probabilities_are_the_shares_of_images() -> None:
    draws = COLOUR.draw(view_batch(NOTHING))
    jittered = draws.hue != 0
    assert jittered.mean() == pytest.approx(0.6, abs=SHARE)
    assert (draws.saturation == 0).mean() == pytest.approx(0.25, abs=SHARE)
    np.testing.assert_array_equal(draws.brightness != 1, jittered)


def test_factors_fill_their_ranges_evenly() -> None:
    draws = COLOUR.draw(view_batch(NOTHING))
    jittered = draws.hue != 0
    grey = draws.saturation == 0
    for values, low, high in (
        (draws.brightness[jittered], 0.6, 1.4),
        (draws.contrast[jittered], 0.0, 2.5),
        (draws.saturation[jittered & ~grey], 0.8, 1.2),
        (draws.hue[jittered], -36.0, 36.0),
    ):
        room = high - low
        assert low - 1e-5 <= values.min() < low + 0.01 * room
        assert high - 0.01 * room < values.max() <= high + 1e-5
        assert values.mean() == pytest.approx((low + high) / 2, abs=4 * room / np.sqrt(12 * len(values)))


def test_the_order_of_brightness_and_contrast_is_tossed_for_each_image_and_view() -> None:
    batch = view_batch(NOTHING)
    first = COLOUR.draw(batch)
    tolerance = 4 * np.sqrt(0.25 / MANY)
    assert first.brightness_first.mean() == pytest.approx(0.5, abs=tolerance)
    assert (first.brightness_first == Flip(0.5).draw(batch)).mean() == pytest.approx(0.5, abs=tolerance)
    for other in (view_batch(NOTHING, view=1), view_batch(NOTHING, seed=1), view_batch(NOTHING, epoch=1)):
        same = (first.brightness_first == COLOUR.draw(other).brightness_first).mean()
        assert same == pytest.approx(0.5, abs=tolerance)


def test_nothing_is_drawn_where_both_are_off() -> None:
    draws = Colour(None, 0).draw(view_batch(NOTHING))
    assert not draws.hue.any()
    for factor in (draws.brightness, draws.contrast, draws.saturation):
        assert (factor == 1).all()


def matrix(hue: float = 0, saturation: float = 1, brightness: float = 1) -> np.ndarray:
    return colour_matrices(*(np.array([value], np.float32) for value in (hue, saturation, brightness)))[0]


def test_no_change_is_the_identity_to_the_last_bit() -> None:
    np.testing.assert_array_equal(matrix(), np.eye(3))


def test_a_third_of_a_turn_takes_red_to_green_as_in_hsv() -> None:
    for colour, turned in ((RED, GREEN), (GREEN, BLUE), (BLUE, RED)):
        np.testing.assert_allclose(matrix(hue=120) @ colour, turned, atol=1e-6)
        np.testing.assert_allclose(matrix(hue=-120) @ turned, colour, atol=1e-6)


def test_grey_keeps_its_place_whatever_hue_and_saturation() -> None:
    np.testing.assert_allclose(matrix(hue=50, saturation=1.7) @ np.ones(3), np.ones(3), atol=1e-6)


def test_saturation_zero_gives_the_weighted_grey_of_the_turned_colour() -> None:
    np.testing.assert_allclose(matrix(hue=120, saturation=0) @ RED, np.full(3, 0.587), atol=1e-6)


def test_brightness_scales_all_of_it() -> None:
    np.testing.assert_allclose(matrix(30, 0.5, 1.5), 1.5 * matrix(30, 0.5), rtol=1e-6)


def coloured(colour: Colour, pixels: NDArray[np.uint8] | None = None) -> tuple[Pixels, Pixels, ColourDraws]:
    """Crops, the images that they come from, and the draws."""
    views = configure(only(colour_jitter=colour.jitter, greyscale=colour.greyscale))
    crops, images, batch = made(smooth_pixels() if pixels is None else pixels, views)
    return crops, images, colour.draw(batch)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_grey_is_the_weighted_sum_of_the_channels_in_all_three(probability: float) -> None:
    crops, images, draws = coloured(Colour(None, probability))
    assert_close(crops, np.where(per_image(draws.saturation) == 0, luma(images), images))


def brightness_and_contrast(images: Pixels, draws: ColourDraws) -> Pixels:
    """Brightness before or after contrast, which is about each image's mean grey; clipped after each."""
    brightness, contrast = per_image(draws.brightness), per_image(draws.contrast)
    first = per_image(draws.brightness_first.astype(np.float32)) == 1
    images = np.clip(np.where(first, brightness * images, images), 0, 255)
    mean = luma(images).mean(axis=(1, 2, 3), keepdims=True)
    return np.clip(np.where(first, 1, brightness) * (mean + contrast * (images - mean)), 0, 255)


def test_brightness_scales_before_or_after_contrast_about_the_mean_grey() -> None:
    jitter = ColourJitter(probability=1, brightness=0.4, contrast=0.8, saturation=0, hue=0)
    pixels = smooth_pixels() // 2  # the means are far from mid-grey
    crops, images, draws = coloured(Colour(jitter, 0), pixels)
    assert 0 < draws.brightness_first.sum() < N
    assert_close(crops, brightness_and_contrast(images, draws))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("brightness", "contrast"), [(0.8, 0.0), (0.0, 0.8)])
def test_brightness_and_contrast_do_without_each_other(brightness: float, contrast: float, channels: int) -> None:
    jitter = ColourJitter(probability=1, brightness=brightness, contrast=contrast, saturation=0, hue=0)
    crops, images, draws = coloured(Colour(jitter, 0), smooth_pixels(channels=channels))
    assert_close(crops, brightness_and_contrast(images, draws))


def test_the_gpus_arithmetic_of_contrast_gives_the_cpu_operators_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of a GPU, executed on the CPU."""
    jitter = ColourJitter(probability=0.8, brightness=0.8, contrast=0.8, saturation=0, hue=0)
    views = configure(only(colour_jitter=jitter))
    by_operator, _, _ = made(smooth_pixels(), views)
    calls = []

    def contrasted(image: Any, contrast: Any, brightness: Any, channels: int) -> Any:
        calls.append(channels)
        gain, shift = contrast * brightness, (1 - contrast) * brightness * colour_graph.mean_grey(image, channels)
        return colour_graph.by_arithmetic(image, gain, shift)

    monkeypatch.setattr(colour_graph, "contrasted", contrasted)
    by_arithmetic, _, _ = made(smooth_pixels(), views)
    assert calls == [3]
    assert abs(by_arithmetic - by_operator).max() <= 1  # halves are rounded either way
    assert abs(by_arithmetic - by_operator).mean() < 0.01


def test_saturation_moves_away_from_the_grey_image() -> None:
    jitter = ColourJitter(probability=1, brightness=0, contrast=0, saturation=0.9, hue=0)
    crops, images, draws = coloured(Colour(jitter, 0))
    expected = luma(images) + per_image(draws.saturation) * (images - luma(images))
    assert_close(crops, expected)


def test_hue_turns_about_the_grey_axis() -> None:
    """Rodrigues' formula: v cos a + (k × v) sin a + k (k · v)(1 - cos a)."""
    jitter = ColourJitter(probability=1, brightness=0, contrast=0, saturation=0, hue=0.5)
    crops, images, draws = coloured(Colour(jitter, 0))
    axis = np.ones(3) / np.sqrt(3)
    for crop, image, degrees in zip(crops, images, draws.hue, strict=True):
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        along = (image @ axis)[..., None] * axis
        assert_close(crop, cosine * image + sine * np.cross(axis, image) + (1 - cosine) * along)
    assert abs(draws.hue).max() > 120
