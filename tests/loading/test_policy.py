"""What RandAugment, TrivialAugment and rotation do to known pixels, against definitions written here."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from issl_engine.loading import TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.views.config import Augmentation, CropGroup, Rotation, ViewsConfig
from issl_engine.views.further_draws import FurtherDraws, draw_further
from issl_engine.views.policies.base import ALL_OPERATIONS, Operation
from issl_engine.views.policies.rand_augment import RandAugment
from issl_engine.views.policies.trivial_augment import TrivialAugment
from issl_engine.views.policy_draws import PolicyStep

Pixels = NDArray[np.float64]
N, SIDE, SEED = 16, 24, 5
NOTHING = Augmentation(flip=0, colour_jitter=None, greyscale=0)
LUMA = np.array([0.299, 0.587, 0.114])
CLOSE = 2.0


def smooth_pixels(channels: int = 3) -> NDArray[np.uint8]:
    """Random images as smooth as photographs are; the first is of one colour, the second of few levels."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (N, 6, 6, 3), dtype=np.uint8)
    images = np.stack([Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for one in coarse])
    images[0] = (40, 90, 250)
    images[1] = 100 + images[1] // 8
    return images[..., :channels]


def crops_and_draws(augmentation: Augmentation, channels: int = 3) -> tuple[Pixels, Pixels, FurtherDraws]:
    """Whole images as one batch of crops: (crops, the images they come from, both HWC, and the draws)."""
    pixels = smooth_pixels(channels)
    sizes_HW = np.full((N, 2), SIDE, np.int32)
    images = ImageSet(labels=np.zeros(N, np.int64), sizes_HW=sizes_HW, pixels=pixels)
    views = ViewsConfig(
        groups=(CropGroup(count=1, size=SIDE, area=(1, 1), ratio=(1, 1)),), num_global_views=1,
        augmentation=augmentation, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255),
    )  # fmt: skip
    loader = TrainingViews(
        images, views, batch_size=N, rank=0, world_size=1, seed=SEED, device=torch.device("cpu"), num_threads=1
    )
    batch = next(loader)
    loader.close()
    (draws,) = draw_further(views, N, seed=SEED, epoch=0, first_position=0)
    crops = batch.crops[0][0].permute(0, 2, 3, 1).double().numpy()
    shown = np.repeat(pixels, 3 // channels, axis=-1)
    return crops, shown[batch.ids.numpy()].astype(np.float64), draws


def one_operation(operation: Operation, channels: int = 3) -> tuple[Pixels, Pixels, PolicyStep]:
    policy = TrivialAugment(name="trivial_augment", operations=(operation,), fill=60)
    crops, images, draws = crops_and_draws(NOTHING.model_copy(update={"policy": policy}), channels)
    (step,) = draws.policy_steps
    assert (step.operation == ALL_OPERATIONS.index(operation)).all()
    return crops, images, step


def warped(image: Pixels, x_of_source: Pixels, y_of_source: Pixels, fill: float) -> Pixels:
    """Bilinear between pixel centres at whole numbers plus a half; ``fill`` beyond the image."""
    framed = np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=fill)
    x, y = (np.clip(place + 0.5, 0, SIDE + 1 - 1e-9) for place in (x_of_source, y_of_source))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right_share, lower_share = (x - left)[..., None], (y - top)[..., None]
    upper = framed[top, left] * (1 - right_share) + framed[top, left + 1] * right_share
    lower = framed[top + 1, left] * (1 - right_share) + framed[top + 1, left + 1] * right_share
    return upper * (1 - lower_share) + lower * lower_share


def centres() -> tuple[Pixels, Pixels]:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return x, y


def assert_close(ours: Pixels, expected: Pixels, tolerance: float = CLOSE) -> None:
    assert abs(ours - np.clip(expected, 0, 255)).max() <= tolerance


@pytest.mark.parametrize("channels", [1, 3])
def test_rotation_turns_the_crop_anticlockwise_about_its_centre(channels: int) -> None:
    rotation = Rotation(probability=0.7, degrees=(-50, 90), fill=60)
    crops, images, draws = crops_and_draws(NOTHING.model_copy(update={"rotation": rotation}), channels)
    assert 0 < draws.rotated.sum() < N
    x, y = (place - SIDE / 2 for place in centres())
    for crop, image, degrees in zip(crops, images, draws.degrees, strict=True):
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        source = SIDE / 2 + cosine * x - sine * y, SIDE / 2 + sine * x + cosine * y
        # places are rounded to 1/32 of a pixel
        assert_close(crop, warped(image, *source, fill=60), 4)
        assert abs(crop - warped(image, *source, fill=60)).mean() < 0.5


def test_a_quarter_turn_is_exact() -> None:
    rotation = Rotation(probability=1, degrees=(90, 90))
    crops, images, _ = crops_and_draws(NOTHING.model_copy(update={"rotation": rotation}))
    assert_close(crops, np.rot90(images, axes=(1, 2)), 0.01)


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
    crops, images, draws = crops_and_draws(NOTHING.model_copy(update={"policy": policy}))
    first, second = draws.policy_steps
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
    crops, images, draws = crops_and_draws(NOTHING.model_copy(update={"policy": policy}))
    (step,) = draws.policy_steps
    unchanged = step.operation == ALL_OPERATIONS.index("identity")
    bits = step.operation == ALL_OPERATIONS.index("posterise")
    assert unchanged.any() or bits.any()
    assert_close(crops[unchanged], images[unchanged], 0.01)
    for row in bits.nonzero()[0]:
        assert_close(crops[row], images[row].astype(int) & int(step.value[row]), 0.01)
    others = ~unchanged & ~bits
    assert (abs(crops - images).max(axis=(1, 2, 3))[others] > 0).sum() >= others.sum() / 2
