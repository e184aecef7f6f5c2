"""RandAugment and TrivialAugment: which operations are drawn, how strong they are, and what they do to known pixels."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from pydantic import ValidationError

from issl_engine.views.augmentations.policy import (
    ALL_OPERATIONS,
    UNIFORMS_PER_STEP,
    Operation,
    Policy,
    PolicyDraws,
)
from issl_engine.views.policies.rand_augment import RandAugment
from issl_engine.views.policies.trivial_augment import TrivialAugment

from .drawn_crops import Pixels, assert_close, configure, made, only, smooth_pixels, view_batch
from .warped import centres, warped

MANY, SIZE = 20_000, 96


def step_of(policy: Policy) -> PolicyDraws:
    return policy.draw(SIZE, np.random.default_rng(0).random((MANY, UNIFORMS_PER_STEP)))


def rand_augment(operation: Operation, magnitude: float, magnitude_std: float = 0) -> PolicyDraws:
    policy = RandAugment(name="rand_augment", operations=(operation,), magnitude=magnitude, magnitude_std=magnitude_std)
    return step_of(policy)


def trivial_augment(operation: Operation) -> PolicyDraws:
    return step_of(TrivialAugment(name="trivial_augment", operations=(operation,)))


def degrees_of(step: PolicyDraws) -> np.ndarray:
    return np.rad2deg(np.arctan2(step.matrix[:, 1, 0], step.matrix[:, 0, 0]))


@pytest.mark.parametrize("operations", [ALL_OPERATIONS, ("rotate", "equalise", "contrast")])
def test_operations_are_equally_likely(operations: tuple[Operation, ...]) -> None:
    counts = np.bincount(
        step_of(TrivialAugment(name="trivial_augment", operations=operations)).operation, minlength=len(ALL_OPERATIONS)
    )
    expected = MANY / len(operations)
    for index, name in enumerate(ALL_OPERATIONS):
        if name in operations:
            assert counts[index] == pytest.approx(expected, abs=5 * np.sqrt(expected))
        else:
            assert counts[index] == 0


def test_rand_augment_at_the_largest_magnitude_has_the_papers_strengths() -> None:
    for name, signed in (("shear_x", 0.3), ("translate_x", int(150 / 331 * SIZE))):
        amounts = rand_augment(name, 30).matrix[:, 0, 1 if name == "shear_x" else 2]  # type: ignore[arg-type]
        np.testing.assert_allclose(np.unique(amounts), [-signed, signed], rtol=1e-6)
    np.testing.assert_allclose(np.unique(np.round(degrees_of(rand_augment("rotate", 30)), 3)), [-30, 30])
    for name in ("brightness", "colour", "contrast"):
        np.testing.assert_allclose(np.unique(rand_augment(name, 30).value), [0.1, 1.9], rtol=1e-5)  # type: ignore[arg-type]
    assert set(rand_augment("posterise", 30).value) == {0b11110000}
    assert set(rand_augment("solarise", 30).value) == {0}


def test_rand_augment_at_magnitude_zero_changes_little() -> None:
    np.testing.assert_array_equal(rand_augment("shear_y", 0).matrix, np.tile(np.eye(3), (MANY, 1, 1)))
    assert set(rand_augment("brightness", 0).value) == {1}
    assert set(rand_augment("posterise", 0).value) == {255}
    assert set(rand_augment("solarise", 0).value) == {255}


def test_the_default_magnitude_is_nine_thirtieths() -> None:
    policy = RandAugment(name="rand_augment", operations=("rotate",))
    assert (policy.num_ops, policy.magnitude, policy.magnitude_std) == (2, 9, 0)
    np.testing.assert_allclose(abs(degrees_of(step_of(policy))), 9, rtol=1e-4)


def test_the_magnitudes_deviation_is_normal_and_stays_within_the_range() -> None:
    magnitudes = abs(degrees_of(rand_augment("rotate", 15, magnitude_std=3)))
    assert magnitudes.mean() == pytest.approx(15, abs=0.1)
    assert magnitudes.std() == pytest.approx(3, abs=0.1)
    assert (abs(magnitudes - 15) < 3).mean() == pytest.approx(0.683, abs=0.02)
    wide = abs(degrees_of(rand_augment("rotate", 15, magnitude_std=30)))
    assert wide.max() <= 30.001


def test_trivial_augment_draws_each_of_31_magnitudes_equally() -> None:
    steps = np.rint(abs(trivial_augment("shear_x").matrix[:, 0, 1]) / 0.99 * 30).astype(int)
    assert np.bincount(steps, minlength=31) == pytest.approx(MANY / 31, abs=5 * np.sqrt(MANY / 31))
    assert abs(degrees_of(trivial_augment("rotate"))).max() == pytest.approx(135, rel=1e-4)
    assert abs(trivial_augment("translate_y").matrix[:, 1, 2]).max() == 32
    assert set(trivial_augment("posterise").value) == {255, 254, 252, 248, 240, 224, 192}
    np.testing.assert_allclose(
        (trivial_augment("contrast").value.min(), trivial_augment("contrast").value.max()), (0.01, 1.99), rtol=1e-3
    )


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_half_of_the_images_go_either_way(name: Operation) -> None:
    off = trivial_augment(name).matrix - np.eye(3)
    moved = off[np.abs(off).max(axis=(1, 2)) > 0]
    row, column = {"shear_x": (0, 1), "shear_y": (1, 0), "translate_x": (0, 2), "translate_y": (1, 2)}.get(name, (1, 0))
    assert (moved[:, row, column] > 0).mean() == pytest.approx(0.5, abs=0.02)


def test_sharpness_filters_keep_the_sum_of_the_pixels() -> None:
    matrix = trivial_augment("sharpness").matrix
    np.testing.assert_allclose(matrix.sum(axis=(1, 2)), 1, atol=1e-5)
    assert matrix[:, 1, 1].min() < 0.5
    assert matrix[:, 1, 1].max() > 1.5


def test_an_operation_named_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="operations has rotate more than once; name each operation once"):
        TrivialAugment(name="trivial_augment", operations=("rotate", "shear_x", "rotate"))


def test_the_steps_of_a_policy_are_independent() -> None:
    policy = RandAugment(name="rand_augment", magnitude_std=3)
    batch = view_batch(only(policy=policy))
    assert abs(np.corrcoef(*(step.draw(batch).operation for step in policy.steps()))[0, 1]) < 0.05


def few_levels(channels: int = 3) -> NDArray[np.uint8]:
    """Smooth images; the first is of one colour, the second of few levels."""
    images = smooth_pixels(cells=6).copy()
    images[0] = (40, 90, 250)
    images[1] = 100 + images[1] // 8
    return images[..., :channels]


def changed(policy: Policy, channels: int = 3) -> tuple[Pixels, Pixels, tuple[PolicyDraws, ...]]:
    """Crops, the images that they come from, and the draws of each step."""
    crops, images, batch = made(few_levels(channels), configure(only(policy=policy)))
    return crops, images, tuple(step.draw(batch) for step in policy.steps())


def one_operation(operation: Operation, channels: int = 3) -> tuple[Pixels, Pixels, PolicyDraws]:
    policy = TrivialAugment(name="trivial_augment", operations=(operation,), fill=60)
    crops, images, (step,) = changed(policy, channels)
    assert (step.operation == ALL_OPERATIONS.index(operation)).all()
    return crops, images, step


@pytest.mark.parametrize("axis", ["x", "y"])
def test_shear_slants_about_the_upper_left_corner(axis: str) -> None:
    crops, images, step = one_operation("shear_x" if axis == "x" else "shear_y")
    amounts = step.matrix[:, 0, 1] if axis == "x" else step.matrix[:, 1, 0]
    assert amounts.min() < -0.3
    assert amounts.max() > 0.3
    x, y = centres()
    for crop, image, amount in zip(crops, images, amounts, strict=True):
        source = (x + amount * y, y) if axis == "x" else (x, y + amount * x)
        assert_close(crop, warped(image, *source, fill=60), 4)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_translation_moves_by_whole_pixels(axis: str) -> None:
    crops, images, step = one_operation("translate_x" if axis == "x" else "translate_y")
    moved = -step.matrix[:, 0 if axis == "x" else 1, 2]
    assert (moved == np.rint(moved)).all()
    assert moved.min() < -4 < 4 < moved.max()
    x, y = centres()
    for crop, image, px in zip(crops, images, moved, strict=True):
        source = (x - px, y) if axis == "x" else (x, y - px)
        assert_close(crop, warped(image, *source, fill=60), 0.01)


def test_rotate_of_a_policy_is_rotation() -> None:
    crops, images, step = one_operation("rotate")
    x, y = centres()
    for crop, image, matrix in zip(crops, images, step.matrix, strict=True):
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
        source = (matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] for i in (0, 1))
        assert_close(crop, warped(image, *source, fill=60), 4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", ["brightness", "colour", "contrast"])
def test_colour_factors_are_those_of_pillow(operation: Operation, channels: int) -> None:
    """Pillow rounds the mean of contrast to a whole level."""
    crops, images, step = one_operation(operation, channels)
    assert step.value.min() < 0.7
    assert step.value.max() > 1.3
    enhancers = {"brightness": ImageEnhance.Brightness, "colour": ImageEnhance.Color, "contrast": ImageEnhance.Contrast}
    for crop, image, factor in zip(crops, images, step.value, strict=True):
        expected = enhancers[operation](Image.fromarray(image.astype(np.uint8))).enhance(float(factor))
        assert_close(crop, np.asarray(expected, dtype=np.float64))


@pytest.mark.parametrize("channels", [1, 3])
def test_sharpness_is_that_of_pillow_away_from_the_edge(channels: int) -> None:
    crops, images, step = one_operation("sharpness", channels)
    for crop, image, kernel in zip(crops, images, step.matrix, strict=True):
        factor = 1 - kernel[0, 0] * 13
        expected = ImageEnhance.Sharpness(Image.fromarray(image.astype(np.uint8))).enhance(float(factor))
        assert_close(crop[1:-1, 1:-1], np.asarray(expected, dtype=np.float64)[1:-1, 1:-1])


@pytest.mark.parametrize("channels", [1, 3])
def test_posterise_keeps_the_upper_bits(channels: int) -> None:
    crops, images, step = one_operation("posterise", channels)
    assert set(step.value) <= {255, 254, 252, 248, 240, 224, 192}
    assert len(set(step.value)) > 3
    kept = 8 - np.log2(256 - step.value)
    for crop, image, bits in zip(crops, images, kept, strict=True):
        assert_close(crop, np.floor(image / 2 ** (8 - bits)) * 2 ** (8 - bits), 0.01)


def test_solarise_inverts_from_the_threshold_on() -> None:
    crops, images, step = one_operation("solarise")
    thresholds = step.value[:, None, None, None]
    assert_close(crops, np.where(images >= thresholds, 255 - images, images), 0.01)


@pytest.mark.parametrize("channels", [1, 3])
def test_auto_contrast_stretches_each_channel_and_leaves_a_flat_one(channels: int) -> None:
    crops, images, _ = one_operation("auto_contrast", channels)
    for crop, image in zip(crops, images, strict=True):
        expected = ImageOps.autocontrast(Image.fromarray(image.astype(np.uint8)))
        assert_close(crop, np.asarray(expected, dtype=np.float64), 1.01)


def test_equalise_spreads_each_channels_levels_evenly() -> None:
    crops, images, _ = one_operation("equalise")
    for crop, image in zip(crops, images, strict=True):
        for ours, channel in zip(crop.T, image.T, strict=True):
            counts = np.bincount(channel.astype(int).ravel(), minlength=256)
            below = counts.cumsum()
            first = counts[counts > 0][0]
            if first == channel.size:
                expected = channel
            else:
                expected = ((below - first) / (channel.size - first) * 255)[channel.astype(int)]
            assert_close(ours, expected, 1.01)


def test_identity_changes_nothing() -> None:
    crops, images, _ = one_operation("identity")
    assert_close(crops, images, 0.01)


def test_operations_follow_each_other() -> None:
    """Two steps: each image's pixels are those of the first operation, then of the second."""
    policy = RandAugment(name="rand_augment", operations=("posterise", "solarise"), num_ops=2, magnitude=20)
    crops, images, (first, second) = changed(policy)
    assert len({*zip(first.operation, second.operation)}) == 4
    posterise = ALL_OPERATIONS.index("posterise")
    for row, image in enumerate(images):
        expected = image
        for step in (first, second):
            value = step.value[row]
            if step.operation[row] == posterise:
                expected = expected.astype(int) & int(value)
            else:
                expected = np.where(expected >= value, 255 - expected, expected)
        assert_close(crops[row], expected, 0.01)


def test_all_operations_at_once_leave_each_image_its_own() -> None:
    """With every operation in the list, a crop is the one that its operation alone makes."""
    policy = TrivialAugment(name="trivial_augment")
    crops, images, (step,) = changed(policy)
    unchanged = step.operation == ALL_OPERATIONS.index("identity")
    bits = step.operation == ALL_OPERATIONS.index("posterise")
    assert unchanged.any() or bits.any()
    assert_close(crops[unchanged], images[unchanged], 0.01)
    for row in bits.nonzero()[0]:
        assert_close(crops[row], images[row].astype(int) & int(step.value[row]), 0.01)
    others = ~unchanged & ~bits
    assert (abs(crops - images).max(axis=(1, 2, 3))[others] > 0).sum() >= others.sum() / 2
