"""Hue, saturation and brightness as one matrix."""

import numpy as np

from issl_engine.views.colour_matrix import colour_matrices

RED, GREEN, BLUE = np.eye(3)


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
