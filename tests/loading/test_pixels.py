"""What DALI does to known pixels, against definitions written here: within 2 of 255 grey levels."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from issl_engine.loading import TrainingViews, view
from issl_engine.sources.base import ImageSet
from issl_engine.views.config import Augmentation, Blur, ColourJitter, CropGroup, Solarise, ViewsConfig
from issl_engine.views.draws import ViewDraws, draw_views

Pixels = NDArray[np.float64]
N, SIDE, SEED = 16, 24, 5
NOTHING = Augmentation(flip=0, colour_jitter=None, greyscale=0)
WHOLE = (1.0, 1.0)
CLOSE = 2.0


def smooth_pixels(count: int, height: int, width: int, channels: int = 3, cells: int = 8) -> NDArray[np.uint8]:
    """Random images as smooth as photographs are."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, cells, cells, 3), dtype=np.uint8)
    images = [Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC) for one in coarse]
    return np.stack([np.asarray(image) for image in images])[..., :channels]


def image_set(pixels: NDArray[np.uint8]) -> ImageSet:
    sizes_HW = np.tile(np.array([pixels.shape[1:3]], np.int32), (len(pixels), 1))
    return ImageSet(labels=np.zeros(len(pixels), np.int64), sizes_HW=sizes_HW, pixels=pixels)


def configure(
    augmentation: Augmentation = NOTHING,
    *,
    size: int = SIDE,
    area: tuple[float, float] = WHOLE,
    interpolation: str = "bilinear",
) -> ViewsConfig:
    """One crop; with ``area`` whole and ``size`` that of the image it is the image itself."""
    return ViewsConfig.model_validate(
        {
            "groups": [{"count": 1, "size": size, "area": area, "ratio": (1, 1) if area == WHOLE else (0.75, 1.33)}],
            "num_global_views": 1,
            "augmentation": augmentation,
            "mean": (0.0, 0.0, 0.0),
            "std": (1 / 255, 1 / 255, 1 / 255),
            "interpolation": interpolation,
        }
    )


def crops_and_draws(pixels: NDArray[np.uint8], views: ViewsConfig) -> tuple[Pixels, Pixels, ViewDraws]:
    """All images once, cut by one batch: (crops, the images they come from, both HWC, and the draws)."""
    images = image_set(pixels)
    loader = TrainingViews(
        images, views, batch_size=len(images), rank=0, world_size=1, seed=SEED, device=torch.device("cpu"),
        num_threads=1,
    )  # fmt: skip
    batch = next(loader)
    loader.close()
    (draws,) = draw_views(views, images.sizes_HW, seed=SEED, epoch=0, first_position=0)
    crops = batch.crops[0][0].permute(0, 2, 3, 1).double().numpy()
    return crops, pixels[batch.ids.numpy()].astype(np.float64), draws


def per_image(values: NDArray[np.float32]) -> Pixels:
    return values.astype(np.float64)[:, None, None, None]


def luma(images: Pixels) -> Pixels:
    return (images @ np.array([0.299, 0.587, 0.114]))[..., None]


def assert_close(ours: Pixels, expected: Pixels, tolerance: float = CLOSE) -> None:
    assert abs(ours - np.clip(expected, 0, 255)).max() <= tolerance


def test_without_augmentation_a_whole_crop_is_the_image() -> None:
    crops, images, _ = crops_and_draws(smooth_pixels(N, SIDE, SIDE), configure())
    assert_close(crops, images, 1e-3)


def test_mean_and_std_are_subtracted_and_divided_by_per_channel() -> None:
    views = configure().model_copy(update={"mean": (0.1, 0.5, 0.9), "std": (0.2, 0.3, 0.4)})
    crops, images, _ = crops_and_draws(smooth_pixels(N, SIDE, SIDE), views)
    expected = (images / 255 - np.array(views.mean)) / np.array(views.std)
    np.testing.assert_allclose(crops, expected, atol=1e-4)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_flip_mirrors_left_and_right(probability: float) -> None:
    augmentation = NOTHING.model_copy(update={"flip": probability})
    crops, images, draws = crops_and_draws(smooth_pixels(N, SIDE, SIDE), configure(augmentation))
    expected = np.where(draws.flip[:, None, None, None], images[:, :, ::-1], images)
    assert draws.flip.any()
    assert draws.flip.all() == (probability == 1)
    assert_close(crops, expected, 1e-3)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_grey_is_the_weighted_sum_of_the_channels_in_all_three(probability: float) -> None:
    augmentation = NOTHING.model_copy(update={"greyscale": probability})
    crops, images, draws = crops_and_draws(smooth_pixels(N, SIDE, SIDE), configure(augmentation))
    assert_close(crops, np.where(per_image(draws.saturation) == 0, luma(images), images))


def brightness_and_contrast(images: Pixels, draws: ViewDraws) -> Pixels:
    """Brightness before or after contrast, which is about each image's mean grey; clipped after each."""
    brightness, contrast = per_image(draws.brightness), per_image(draws.contrast)
    first = per_image(draws.brightness_first.astype(np.float32)) == 1
    images = np.clip(np.where(first, brightness * images, images), 0, 255)
    mean = luma(images).mean(axis=(1, 2, 3), keepdims=True)
    return np.clip(np.where(first, 1, brightness) * (mean + contrast * (images - mean)), 0, 255)


def test_brightness_scales_before_or_after_contrast_about_the_mean_grey() -> None:
    jitter = ColourJitter(probability=1, brightness=0.4, contrast=0.8, saturation=0, hue=0)
    augmentation = NOTHING.model_copy(update={"colour_jitter": jitter})
    pixels = smooth_pixels(N, SIDE, SIDE) // 2  # the means are far from mid-grey
    crops, images, draws = crops_and_draws(pixels, configure(augmentation))
    assert 0 < draws.brightness_first.sum() < N
    assert_close(crops, brightness_and_contrast(images, draws))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("brightness", "contrast"), [(0.8, 0.0), (0.0, 0.8)])
def test_brightness_and_contrast_do_without_each_other(brightness: float, contrast: float, channels: int) -> None:
    jitter = ColourJitter(probability=1, brightness=brightness, contrast=contrast, saturation=0, hue=0)
    augmentation = NOTHING.model_copy(update={"colour_jitter": jitter})
    crops, images, draws = crops_and_draws(smooth_pixels(N, SIDE, SIDE, channels), configure(augmentation))
    assert_close(crops, brightness_and_contrast(np.repeat(images, 3 // channels, axis=-1), draws))


def test_the_gpus_arithmetic_of_contrast_gives_the_cpu_operators_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of a GPU, executed on the CPU."""
    jitter = ColourJitter(probability=0.8, brightness=0.8, contrast=0.8, saturation=0, hue=0)
    views = configure(NOTHING.model_copy(update={"colour_jitter": jitter}))
    by_operator, _, _ = crops_and_draws(smooth_pixels(N, SIDE, SIDE), views)
    calls = []

    def contrasted(image: Any, contrast: Any, brightness: Any, channels: int) -> Any:
        calls.append(channels)
        gain, shift = contrast * brightness, (1 - contrast) * brightness * view.mean_grey(image, channels)
        return view.by_arithmetic(image, gain, shift)

    monkeypatch.setattr(view, "contrasted", contrasted)
    by_arithmetic, _, _ = crops_and_draws(smooth_pixels(N, SIDE, SIDE), views)
    assert calls == [3]
    assert abs(by_arithmetic - by_operator).max() <= 1  # halves are rounded either way
    assert abs(by_arithmetic - by_operator).mean() < 0.01


def test_saturation_moves_away_from_the_grey_image() -> None:
    jitter = ColourJitter(probability=1, brightness=0, contrast=0, saturation=0.9, hue=0)
    augmentation = NOTHING.model_copy(update={"colour_jitter": jitter})
    crops, images, draws = crops_and_draws(smooth_pixels(N, SIDE, SIDE), configure(augmentation))
    expected = luma(images) + per_image(draws.saturation) * (images - luma(images))
    assert_close(crops, expected)


def test_hue_turns_about_the_grey_axis() -> None:
    """Rodrigues' formula: v cos a + (k × v) sin a + k (k · v)(1 - cos a)."""
    jitter = ColourJitter(probability=1, brightness=0, contrast=0, saturation=0, hue=0.5)
    augmentation = NOTHING.model_copy(update={"colour_jitter": jitter})
    crops, images, draws = crops_and_draws(smooth_pixels(N, SIDE, SIDE), configure(augmentation))
    axis = np.ones(3) / np.sqrt(3)
    for crop, image, degrees in zip(crops, images, draws.hue, strict=True):
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        along = (image @ axis)[..., None] * axis
        assert_close(crop, cosine * image + sine * np.cross(axis, image) + (1 - cosine) * along)
    assert abs(draws.hue).max() > 120


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_solarising_inverts_pixels_from_the_threshold_on(probability: float) -> None:
    augmentation = NOTHING.model_copy(update={"solarise": Solarise(probability=probability, threshold=100)})
    crops, images, draws = crops_and_draws(smooth_pixels(N, SIDE, SIDE), configure(augmentation))
    chosen = draws.solarise[:, None, None, None] & (images >= 100)
    assert_close(crops, np.where(chosen, 255 - images, images), 1e-3)


@pytest.mark.parametrize("threshold", [0, 255])
def test_the_extreme_thresholds_of_solarising(threshold: int) -> None:
    augmentation = NOTHING.model_copy(update={"solarise": Solarise(probability=1, threshold=threshold)})
    pixels = smooth_pixels(N, SIDE, SIDE)
    pixels[:, 0] = 255
    crops, images, _ = crops_and_draws(pixels, configure(augmentation))
    assert_close(crops, np.where(images >= threshold, 255 - images, images), 1e-3)


def gaussian_blur(image: Pixels, sigma: float) -> Pixels:
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    rows = sum(w * padded[i : i + len(image)] for i, w in enumerate(kernel / kernel.sum()))
    return sum(w * rows[:, i : i + image.shape[1]] for i, w in enumerate(kernel / kernel.sum()))


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_blur_is_a_gaussian_of_the_drawn_width(probability: float) -> None:
    augmentation = NOTHING.model_copy(update={"blur": Blur(probability=probability, sigma=(0.3, 2.0))})
    noise = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
    crops, images, draws = crops_and_draws(noise, configure(augmentation))
    assert (draws.sigma > 0).all() == (probability == 1)
    for crop, image, sigma in zip(crops, images, draws.sigma, strict=True):
        assert_close(crop, gaussian_blur(image, sigma) if sigma > 0 else image, 1.0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "area"), [(8, (0.1, 0.9)), (16, (0.3, 1.0)), (32, (0.05, 0.3))])
def test_crops_are_the_antialiased_resize_of_their_windows(
    interpolation: str, size: int, area: tuple[float, float]
) -> None:
    """Within 2 levels on average over all crops, and within 3 at every pixel away from the crops' edges.

    At the edges DALI's filter reaches beyond the window, and Pillow's does not.
    """
    views = configure(size=size, area=area, interpolation=interpolation)
    crops, images, draws = crops_and_draws(smooth_pixels(32, 48, 64), views)
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


def test_a_grey_source_gives_three_channels_as_its_rgb_twin_does() -> None:
    """Fewer operators run on one channel: brightness and contrast still do what they do to three equal ones."""
    grey = smooth_pixels(N, 28, 28, channels=1)
    augmentation = Augmentation(
        colour_jitter=ColourJitter(saturation=0.4, hue=0.1, probability=0.8), greyscale=0.3, flip=0.5,
        blur=Blur(probability=0.5, sigma=(0.3, 1.0)), solarise=Solarise(probability=0.3),
    )  # fmt: skip
    views = configure(augmentation, size=20, area=(0.3, 0.9)).model_copy(
        update={"mean": (0.3, 0.3, 0.5), "std": (0.01, 0.01, 0.02)}
    )
    ours, _, _ = crops_and_draws(grey, views)
    theirs, _, _ = crops_and_draws(np.repeat(grey, 3, axis=-1), views)
    assert ours.shape == (N, 20, 20, 3)
    difference = abs(ours - theirs) * np.array(views.std) * 255
    assert np.quantile(difference, 0.999) <= 1.01  # rounded once a colour operator
    assert difference.mean() < 0.2


def test_pixels_need_not_be_contiguous() -> None:
    pixels = smooth_pixels(N, SIDE, SIDE)
    crops, images, _ = crops_and_draws(pixels[..., :1], configure())
    assert_close(crops, np.repeat(images, 3, axis=-1), 1e-3)
    crops, images, _ = crops_and_draws(np.asfortranarray(pixels), configure())
    assert_close(crops, images, 1e-3)


def test_each_group_may_have_an_augmentation_of_its_own() -> None:
    views = ViewsConfig(
        groups=(
            CropGroup(count=1, size=SIDE, area=WHOLE, ratio=(1, 1)),
            CropGroup(count=1, size=SIDE, area=WHOLE, ratio=(1, 1), augmentation=Augmentation(
                flip=0, colour_jitter=None, greyscale=0, solarise=Solarise(probability=1, threshold=0))),
        ),
        num_global_views=1, augmentation=NOTHING, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255),
    )  # fmt: skip
    loader = TrainingViews(
        image_set(smooth_pixels(N, SIDE, SIDE)), views, batch_size=N, rank=0, world_size=1, seed=0,
        device=torch.device("cpu"), num_threads=1,
    )  # fmt: skip
    plain, inverted = next(loader).crops
    loader.close()
    torch.testing.assert_close(inverted, 255 - plain)
