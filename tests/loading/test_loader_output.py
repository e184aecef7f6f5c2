"""What the loader hands over: memory order, type, batches that stay as they are, a cache of encoded images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from issl_engine.loading import TrainingViews
from issl_engine.loading.encoded_cache import EncodedCache
from issl_engine.loading.images import largest_size
from issl_engine.loading.memory import BYTES_A_PIXEL, batch_bytes
from issl_engine.sources.base import ImageSet
from issl_engine.views.batch import MultiCropBatch
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig

VIEWS = ViewsConfig(groups=(CropGroup(count=2, size=16), CropGroup(count=3, size=8, area=(0.1, 0.4))))


def pixel_set(channels: int = 3) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 24, channels), dtype=np.uint8)
    sizes = np.tile(np.array([[20, 24]], np.int32), (24, 1))
    return ImageSet(labels=np.arange(24), sizes_HW=sizes, pixels=pixels)


@pytest.fixture
def files(tmp_path: Path) -> ImageSet:
    pixels = pixel_set().pixels
    assert pixels is not None
    paths = tuple(str(tmp_path / f"{index}.png") for index in range(len(pixels)))
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return ImageSet(labels=np.arange(24), sizes_HW=pixel_set().sizes_HW, paths=paths)


def loader(
    images: ImageSet, *, dtype: torch.dtype = torch.float32, channels_last: bool = False, cache_bytes: int = 0
) -> TrainingViews:
    return TrainingViews(
        images, VIEWS, batch_size=6, rank=0, world_size=1, seed=3, device=torch.device("cpu"), num_threads=2,
        dtype=dtype, channels_last=channels_last, cache_bytes=cache_bytes,
    )  # fmt: skip


def batches(views: TrainingViews, count: int = 8) -> list[MultiCropBatch]:
    found = [next(views) for _ in range(count)]
    views.close()
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_changes_the_memory_and_not_a_value(channels: int) -> None:
    for plain, last in zip(
        batches(loader(pixel_set(channels))), batches(loader(pixel_set(channels), channels_last=True))
    ):
        for one, other in zip(plain.crops, last.crops, strict=True):
            assert torch.equal(one, other)
            assert one.is_contiguous()
            images = other.flatten(0, 1)
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert images.data_ptr() == other.data_ptr()


def test_bfloat16_crops_are_the_float32_crops_rounded() -> None:
    for full, half in zip(batches(loader(pixel_set())), batches(loader(pixel_set(), dtype=torch.bfloat16))):
        for one, other in zip(full.crops, half.crops, strict=True):
            assert other.dtype == torch.bfloat16
            assert torch.equal(one.bfloat16(), other)


def test_a_batch_stays_as_it_is_while_later_ones_are_made() -> None:
    views = loader(pixel_set())
    kept = next(views)
    copies = [crop.clone() for crop in kept.crops]
    for _ in range(6):
        next(views)
    views.close()
    assert all(torch.equal(crop, copy) for crop, copy in zip(kept.crops, copies, strict=True))


def test_memory_of_finished_batches_is_used_again() -> None:
    views = loader(pixel_set())
    places = set()
    for _ in range(10):
        places.add(next(views).crops[0].data_ptr())
    views.close()
    assert len(places) <= 2


def test_a_cache_gives_the_same_batches_and_reads_each_file_once(files: ImageSet) -> None:
    expected = batches(loader(files))
    cached = loader(files, cache_bytes=2**20)
    found = [next(cached) for _ in range(4)]  # an epoch: all images are in memory now
    assert files.paths is not None
    for path in files.paths:
        Path(path).unlink()
    found += [next(cached) for _ in range(4)]
    cached.close()
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.ids, other.ids)
        assert all(torch.equal(a, b) for a, b in zip(one.crops, other.crops, strict=True))


def test_a_full_cache_reads_the_other_images_again(files: ImageSet) -> None:
    sizes = [len(files.stored_bytes(index)) for index in range(24)]
    cache = EncodedCache(files, capacity_bytes=sum(sizes[:5]))
    for _ in range(2):
        assert [len(cache.read(index)) for index in range(24)] == sizes
    assert 5 <= len(cache) < 24
    assert cache.free_bytes < min(sizes)


def test_the_bound_of_a_batch_s_memory_takes_the_largest_images() -> None:
    sizes = np.array([[10, 10], [200, 100], [30, 300], [5, 5]], np.int32)
    images = ImageSet(labels=np.zeros(4, np.int64), sizes_HW=sizes, paths=tuple("abcd"))
    views = ViewsConfig(groups=(CropGroup(count=2, size=10),), augmentation=Augmentation())
    assert batch_bytes(images, views, 2) == 3 * (200 * 100 + 30 * 300) + BYTES_A_PIXEL * 2 * 2 * 100
    assert largest_size(images) == (200, 100)
