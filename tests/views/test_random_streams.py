"""The streams of published runs stay as they were, number by number."""

import numpy as np

from issl_engine.random_streams import FIRST_OWN_PURPOSE, Purpose, epoch_order, uniforms


def test_the_numbers_of_the_views_are_pinned() -> None:
    numbers = uniforms(2, 3, seed=7, epoch=3, first_position=40, purpose=Purpose.VIEWS)
    expected = [
        [0.0006874442096168609, 0.31667435058572246, 0.06794759064044775],
        [0.7714025450645015, 0.7328143167189161, 0.4175124062484581],
    ]
    np.testing.assert_array_equal(numbers, expected)


def test_an_epochs_order_is_pinned() -> None:
    assert epoch_order(10, seed=7, epoch=3).tolist() == [7, 8, 6, 9, 1, 2, 3, 5, 0, 4]


def test_no_two_purposes_share_numbers() -> None:
    firsts = {uniforms(1, 1, seed=7, epoch=3, first_position=40, purpose=purpose).item() for purpose in Purpose}
    assert len(firsts) == len(Purpose)


def test_purposes_keep_their_places_below_those_that_augmentations_name_themselves() -> None:
    assert max(Purpose) < FIRST_OWN_PURPOSE
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "ORDER": 0, "VIEWS": 1, "ROTATION": 2, "JITTER_ORDER": 3, "POLICY": 4, "NOISE": 5, "NOISE_FIELD": 6,
        "OPERATORS": 7, "MASKS": 8, "CORRUPTION": 9,
    }  # fmt: skip
