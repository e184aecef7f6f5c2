"""The probes' images: all of them, in order, resized and cut about the centre."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from issl_engine.loading import EvaluationImages
from issl_engine.sources.base import ImageSet
from issl_engine.views.preprocessing import Preprocessing

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def evaluate(
    images: ImageSet, *, resize: int, crop: int, batch_size: int = 4, num_threads: int = 1,
    interpolation: str = "bilinear",
) -> list[tuple[torch.Tensor, torch.Tensor]]:  # fmt: skip
    return list(
        EvaluationImages(
            images,
            Preprocessing(resize=resize, crop=crop, mean=MEAN, std=STD, interpolation=interpolation),
            batch_size=batch_size,
            device=torch.device("cpu"),
            num_threads=num_threads,
        )
    )


def in_pixels(crops: torch.Tensor) -> NDArray[np.float64]:
    return 255 * (crops.permute(0, 2, 3, 1).double().numpy() * np.array(STD) + np.array(MEAN))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Lossless files of odd sizes, tall, wide and square."""
    folder: Path = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    sizes_HW = np.array([[40, 71], [71, 40], [33, 33], [64, 90], [37, 52], [120, 41]], dtype=np.int32)
    paths = []
    for index, (height, width) in enumerate(sizes_HW):
        path = folder / f"{index}.png"
        coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        coarse.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(path)
        paths.append(str(path))
    return ImageSet(labels=np.arange(6) * 10, sizes_HW=sizes_HW, paths=tuple(paths))


def resized_centre(path: str, resize: int, crop: int, filter_: Image.Resampling) -> NDArray[np.float64]:
    """As torchvision documents Resize and CenterCrop."""
    with Image.open(path) as image:
        width, height = image.size
        short = min(width, height)
        sides = int(resize * width / short), int(resize * height / short)
        left, top = round((sides[0] - crop) / 2), round((sides[1] - crop) / 2)
        return np.asarray(image.resize(sides, filter_).crop((left, top, left + crop, top + crop)), dtype=np.float64)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(32, 28), (24, 24), (33, 20), (48, 41)])
def test_the_centre_of_the_resized_image_is_cut_out(
    files: ImageSet, resize: int, crop: int, interpolation: str
) -> None:
    filter_ = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.BICUBIC
    batches = evaluate(files, resize=resize, crop=crop, interpolation=interpolation)
    crops = in_pixels(torch.cat([crops for crops, _ in batches]))
    assert files.paths is not None
    for ours, path in zip(crops, files.paths, strict=True):
        difference = abs(ours - resized_centre(path, resize, crop, filter_))
        assert difference.mean() <= 0.75
        # at the image's border DALI repeats pixels where Pillow leaves them out
        assert difference[2:-2, 2:-2].max() <= 2


@pytest.mark.parametrize("batch_size", [1, 4, 6, 100])
def test_every_image_comes_once_in_order_whatever_the_batch(files: ImageSet, batch_size: int) -> None:
    reference = torch.cat([crops for crops, _ in evaluate(files, resize=24, crop=20, batch_size=3)])
    batches = evaluate(files, resize=24, crop=20, batch_size=batch_size, num_threads=2)
    assert [len(labels) for _, labels in batches] == [min(batch_size, 6 - first) for first in range(0, 6, batch_size)]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 10, 20, 30, 40, 50]
    assert torch.equal(torch.cat([crops for crops, _ in batches]), reference)


def test_a_second_pass_gives_the_same_bytes(files: ImageSet) -> None:
    images = EvaluationImages(
        files,
        Preprocessing(resize=24, crop=20, mean=MEAN, std=STD, interpolation="bilinear"),
        batch_size=4,
        device=torch.device("cpu"),
        num_threads=1,
    )
    assert len(images) == 2
    for (ours, _), (theirs, _) in zip(images, images, strict=True):
        assert torch.equal(ours, theirs)


def test_images_of_the_right_size_are_not_resampled() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    images = ImageSet(labels=np.arange(5), sizes_HW=np.full((5, 2), 28, np.int32), pixels=pixels)
    for resize, crop in ((28, 28), (28, 20)):
        crops = in_pixels(torch.cat([crops for crops, _ in evaluate(images, resize=resize, crop=crop)]))
        edge = (28 - crop) // 2
        expected = np.repeat(pixels[:, edge : edge + crop, edge : edge + crop], 3, axis=-1)
        np.testing.assert_allclose(crops, expected, atol=1e-3)


def test_a_photograph_that_was_held_sideways_is_turned(tmp_path: Path) -> None:
    """As its size in the image set says (image_folder reads it off the EXIF orientation)."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 40:] = 255  # stored: the right half is white; upright, after a quarter turn: the lower half
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "sideways.jpg", exif=exif)
    images = ImageSet(
        labels=np.zeros(1, np.int64), sizes_HW=np.array([[80, 40]], np.int32), paths=(str(tmp_path / "sideways.jpg"),)
    )  # fmt: skip
    ((crops, _),) = evaluate(images, resize=40, crop=40)
    levels = in_pixels(crops)[0].mean(axis=(1, 2))
    assert levels[:18].max() < 5
    assert levels[-18:].min() > 250


def test_a_crop_larger_than_the_resized_image_is_refused(files: ImageSet) -> None:
    with pytest.raises(ValueError, match=r"evaluation.crop: 32 px is larger than evaluation.resize \(24 px\)"):
        evaluate(files, resize=24, crop=32)
