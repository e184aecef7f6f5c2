"""Bad inputs of the loader: one sentence that names the culprit."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from issl_engine.loading import EvaluationImages, TrainingViews, check_views_fit
from issl_engine.random_streams import epoch_order
from issl_engine.sources.base import ImageSet
from issl_engine.views.config import CropGroup, ViewsConfig
from issl_engine.views.preprocessing import Preprocessing

SMALL = ViewsConfig(groups=(CropGroup(count=2, size=8),))
CULPRIT = 5


def pixel_set(count: int, *sizes: tuple[int, int]) -> ImageSet:
    sizes_HW = np.array(sizes * (count // len(sizes)), dtype=np.int32)
    return ImageSet(labels=np.zeros(count, np.int64), sizes_HW=sizes_HW, pixels=np.zeros((count, 28, 28, 1), np.uint8))


def make_loader(images: ImageSet, *, batch_size: int = 4, world_size: int = 1, seed: int = 0) -> TrainingViews:
    return TrainingViews(
        images,
        SMALL,
        batch_size=batch_size,
        rank=0,
        world_size=world_size,
        seed=seed,
        device=torch.device("cpu"),
        num_threads=1,
    )


def make_evaluation(images: ImageSet) -> EvaluationImages:
    return EvaluationImages(
        images,
        Preprocessing(resize=32, crop=32, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear"),
        batch_size=4,
        device=torch.device("cpu"),
        num_threads=1,
    )


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def replace_by_text(path: Path) -> None:
    path.write_bytes(b"no image")


def replace_by_gif(path: Path) -> None:
    """Pillow reads it, DALI does not."""
    Image.new("RGB", (32, 32)).save(path, format="GIF")


@pytest.fixture
def files(tmp_path: Path) -> ImageSet:
    rng = np.random.default_rng(0)
    paths = tuple(str(tmp_path / f"{index}.jpg") for index in range(12))
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return ImageSet(labels=np.zeros(12, np.int64), sizes_HW=np.full((12, 2), 32, np.int32), paths=paths)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncate, "truncated"),
        (replace_by_text, "cannot identify image"),
        (replace_by_gif, "DALI cannot read this kind of image"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_named(files: ImageSet, spoil: Callable[[Path], None], reason: str) -> None:
    """Also when the loader has not come to its batch yet, but prefetches it."""
    assert files.paths is not None
    spoil(Path(files.paths[CULPRIT]))
    loader = make_loader(files)
    with pytest.raises(ValueError) as caught:
        list(islice(loader, 3))
    loader.close()
    message = str(caught.value)
    assert message.startswith(f"{files.paths[CULPRIT]} (")
    assert reason in message
    assert message.count(".jpg") == 1
    assert message.count("\n") == 0
    assert "remove or mend the file" in message


def replace_by_smaller(path: Path) -> None:
    Image.new("RGB", (3, 4)).save(path)


def replace_by_larger(path: Path) -> None:
    Image.new("RGB", (70, 50)).save(path)


def replace_by_other_sides(path: Path) -> None:
    """As many pixels, so that nothing but the sides differs."""
    Image.new("RGB", (64, 16)).save(path)


CHANGES: list[tuple[Callable[[Path], None], str]] = [
    (Path.unlink, "the file is gone"),
    (replace_by_smaller, "3 x 4 px instead of 32 x 32"),
    (replace_by_larger, "70 x 50 px instead of 32 x 32"),
    (replace_by_other_sides, "64 x 16 px instead of 32 x 32"),
]


@pytest.mark.parametrize(("change", "how"), CHANGES)
@pytest.mark.parametrize("evaluating", [False, True])
def test_a_file_changed_since_the_scan_is_named(
    files: ImageSet, change: Callable[[Path], None], how: str, evaluating: bool
) -> None:
    """Crop windows come from the scan; DALI would read beyond the memory of a smaller image."""
    assert files.paths is not None
    change(Path(files.paths[CULPRIT]))
    with pytest.raises(ValueError) as caught:
        list(make_evaluation(files) if evaluating else islice(make_loader(files), 3))
    assert str(caught.value) == (
        f"{files.paths[CULPRIT]} ({how}): the folder changed during the run; put the file back as it was, then run the "
        "same command again"
    )


def test_batches_before_the_broken_one_are_given_and_none_after_it(files: ImageSet) -> None:
    assert files.paths is not None
    replace_by_text(Path(files.paths[epoch_order(12, seed=0, epoch=0)[-1]]))
    loader = make_loader(files)
    next(loader)
    next(loader)
    with pytest.raises(ValueError, match="cannot identify image"):
        next(loader)
    assert loader.batches_consumed == 2
    with pytest.raises(AssertionError, match="the loader is closed"):
        next(loader)


def test_broken_files_of_the_batches_made_ahead_are_named_too(files: ImageSet) -> None:
    assert files.paths is not None
    order = epoch_order(12, seed=0, epoch=0)
    broken = [files.paths[order[position]] for position in (1, 5)]
    for path in broken:
        replace_by_text(Path(path))
    with pytest.raises(ValueError) as caught:
        next(make_loader(files))
    assert all(path in str(caught.value) for path in broken)


def test_a_file_that_cannot_be_decoded_is_named_in_evaluation(files: ImageSet) -> None:
    assert files.paths is not None
    truncate(Path(files.paths[CULPRIT]))
    with pytest.raises(ValueError, match=r"/5\.jpg \(.*truncated"):
        list(make_evaluation(files))


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_batch_larger_than_the_data_is_refused(world_size: int) -> None:
    images = pixel_set(10, (28, 28))
    with pytest.raises(ValueError, match=r"batch of 12 images is larger than the 10 images .*global_batch_size"):
        make_loader(images, batch_size=12 // world_size, world_size=world_size)


def test_a_batch_of_all_images_is_accepted() -> None:
    loader = make_loader(pixel_set(10, (28, 28)), batch_size=10)
    assert loader.batches_per_epoch == 1
    assert sorted(next(loader).ids.tolist()) == list(range(10))
    loader.close()


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed: -3 is out of range"):
        make_loader(pixel_set(10, (28, 28)), seed=-3)


def test_crops_larger_than_every_image_are_refused_and_their_key_is_named() -> None:
    images = pixel_set(10, (28, 28))
    check_views_fit(images, ViewsConfig(groups=(CropGroup(count=2, size=28),)))
    too_large = ViewsConfig(groups=(CropGroup(count=2, size=28), CropGroup(count=1, size=32)))
    with pytest.raises(ValueError, match=r"^views\.groups\.1\.size: crops of 32 px .*at most 28 px.*; make"):
        check_views_fit(images, too_large)


def test_the_largest_image_decides_and_its_shorter_side_counts() -> None:
    images = pixel_set(10, (20, 20), (40, 90))
    check_views_fit(images, ViewsConfig(groups=(CropGroup(count=2, size=40),)))
    with pytest.raises(ValueError, match="at most 40 px"):
        check_views_fit(images, ViewsConfig(groups=(CropGroup(count=2, size=41),)))
