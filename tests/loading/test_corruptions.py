"""Corruptions of test images beside independent versions of them, and what makes them comparable."""

import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from issl_engine.loading import EvaluationImages
from issl_engine.sources.base import ImageSet
from issl_engine.views.corruptions import Corruption, CorruptionKind, CorruptionsConfig
from issl_engine.views.preprocessing import Preprocessing

CPU = torch.device("cpu")
SIDE = 64
KINDS = CorruptionsConfig().kinds


def photos(count: int = 6, channels: int = 3) -> ImageSet:
    """Smooth colours with edges, of the size that is judged."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    large = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for one in coarse]
    pixels = np.stack([np.asarray(one if channels == 3 else one.convert("L")) for one in large])
    pixels = pixels.reshape(count, SIDE, SIDE, channels).copy()
    pixels[:, 20:30, 20:40] = 230
    return ImageSet(labels=np.arange(count), sizes_HW=np.full((count, 2), SIDE, np.int32), pixels=pixels)


def shown(
    images: ImageSet, corruption: Corruption | None, batch_size: int = 4, device: torch.device = CPU
) -> NDArray[np.float64]:
    """What an encoder would be shown, in grey levels [n, side, side, 3]."""
    batches = EvaluationImages(
        images,
        Preprocessing(
            resize=SIDE, crop=SIDE, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), interpolation="bilinear"
        ),
        batch_size=batch_size,
        device=device,
        num_threads=1,
        corruption=corruption,
    )
    return torch.cat([crops for crops, _ in batches]).permute(0, 2, 3, 1).double().cpu().numpy()


def one(kind: CorruptionKind, strength: int, seed: int = 0) -> Corruption:
    return Corruption(kind=kind, strength=strength, seed=seed)


def blurred(pixels: NDArray[np.uint8], sigma: float) -> NDArray[np.float64]:
    """Separable, three standard deviations to each side, the edge mirrored without being repeated."""
    reach = int(np.ceil(3 * sigma))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    result = pixels.astype(np.float64)
    for axis in (0, 1):
        padded = np.pad(result, [(reach, reach) if a == axis else (0, 0) for a in range(3)], mode="reflect")
        taps = [np.take(padded, np.arange(SIDE) + reach + offset, axis=axis) for offset in offsets]
        result = sum(weight * tap for weight, tap in zip(weights, taps, strict=True))
    return result


@pytest.mark.parametrize("strength", [1, 2, 3, 4, 5])
def test_blur_is_a_gaussian_whose_width_is_a_share_of_the_side(strength: int) -> None:
    images = photos()
    assert images.pixels is not None
    sigma = SIDE * (1, 2, 3, 4, 6)[strength - 1] / 224
    for ours, pixels in zip(shown(images, one("gaussian_blur", strength)), images.pixels, strict=True):
        difference = abs(ours - blurred(pixels, sigma))
        assert difference.mean() < 0.4
        assert difference.max() < 2


@pytest.mark.parametrize("strength", [1, 2, 3, 4, 5])
def test_contrast_draws_each_channel_towards_its_mean(strength: int) -> None:
    images = photos()
    assert images.pixels is not None
    share = (0.4, 0.3, 0.2, 0.1, 0.05)[strength - 1]
    pixels = images.pixels.astype(np.float64)
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    assert abs(shown(images, one("contrast", strength)) - (mean + share * (pixels - mean))).max() <= 0.51


@pytest.mark.parametrize("strength", [1, 2, 3, 4, 5])
def test_jpeg_is_what_pillow_makes_of_that_quality(strength: int) -> None:
    images = photos()
    assert images.pixels is not None
    quality = (25, 18, 15, 10, 7)[strength - 1]
    for ours, pixels in zip(shown(images, one("jpeg", strength)), images.pixels, strict=True):
        stored = io.BytesIO()
        Image.fromarray(pixels).save(stored, "JPEG", quality=quality, subsampling="4:2:0")
        theirs = np.asarray(Image.open(stored), dtype=np.float64)
        # Encoders round the chroma's halving and the tables in their own ways; what JPEG does to the image is larger.
        assert abs(ours - theirs).mean() < 0.35 * abs(theirs - pixels).mean()


@pytest.mark.parametrize("strength", [1, 3, 5])
def test_noise_is_normal_of_the_published_width(strength: int) -> None:
    grey = np.full((4, SIDE, SIDE, 3), 128, np.uint8)
    images = ImageSet(labels=np.arange(4), sizes_HW=np.full((4, 2), SIDE, np.int32), pixels=grey)
    noise = shown(images, one("gaussian_noise", strength)) - 128
    std = 255 * (0.08, 0.12, 0.18, 0.26, 0.38)[strength - 1]
    clipped = np.clip(np.random.default_rng(1).normal(0, std, 400_000), -128, 127)
    assert abs(noise.mean() - clipped.mean()) < 4 * std / np.sqrt(noise.size)
    assert abs(noise.std() / clipped.std() - 1) < 0.02
    quantiles = (5, 25, 75, 95)
    assert abs(np.percentile(noise, quantiles) - np.percentile(clipped, quantiles)).max() < 0.05 * std
    neighbours = np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_strength_is_further_from_the_original(kind: CorruptionKind) -> None:
    images = photos()
    clean = shown(images, None)
    distances = [((shown(images, one(kind, strength)) - clean) ** 2).mean() for strength in (1, 2, 3, 4, 5)]
    assert distances[0] > 0
    assert distances == sorted(distances)
    assert len(set(distances)) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_depend_on_seed_and_image_alone(kind: CorruptionKind) -> None:
    images = photos()
    together = shown(images, one(kind, 3))
    assert np.array_equal(together, shown(images, one(kind, 3), batch_size=1))
    assert np.array_equal(together, shown(images, one(kind, 3), batch_size=6))
    assert np.array_equal(together, shown(images, one(kind, 3, seed=1))) == (kind != "gaussian_noise")


def test_every_image_has_noise_of_its_own() -> None:
    grey = np.full((3, SIDE, SIDE, 3), 128, np.uint8)
    images = ImageSet(labels=np.arange(3), sizes_HW=np.full((3, 2), SIDE, np.int32), pixels=grey)
    first, second, third = shown(images, one("gaussian_noise", 1))
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)


@pytest.mark.parametrize("kind", KINDS)
def test_grey_images_stay_grey(kind: CorruptionKind) -> None:
    images = photos(channels=1)
    corrupted = shown(images, one(kind, 3))
    assert np.array_equal(corrupted[..., 0], corrupted[..., 1])
    assert abs(corrupted - shown(images, None)).mean() > 0.3


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gpu_makes_the_cpus_pixels(kind: CorruptionKind, channels: int) -> None:
    images = photos(channels=channels)
    on_cpu = shown(images, one(kind, 3))
    on_gpu = shown(images, one(kind, 3), device=torch.device("cuda"))
    assert abs(on_gpu - on_cpu).mean() < (1.5 if kind == "jpeg" else 0.1)
