"""What the loader's batches depend on: the seed and the number of batches, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nvidia.dali import fn
from PIL import Image

from issl_engine.loading import TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import ColourJitter
from issl_engine.views.augmentations.noise import GaussianNoise
from issl_engine.views.augmentations.policy import ALL_OPERATIONS
from issl_engine.views.augmentations.rotation import Rotation
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.augmentations.user import UserOperator
from issl_engine.views.batch import MultiCropBatch
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.masks import PatchMask
from issl_engine.views.policies.rand_augment import RandAugment
from issl_engine.views.policies.trivial_augment import TrivialAugment
from issl_engine.views.streams import draw_masks

NUM_IMAGES = 22
USUAL = ViewsConfig(
    groups=(CropGroup(count=2, size=16, area=(0.3, 1.0)), CropGroup(count=3, size=8, area=(0.1, 0.3))),
    augmentation=Augmentation(
        colour_jitter=ColourJitter(), blur=Blur(probability=0.5, sigma=(0.1, 1.0)), solarise=Solarise()
    ),
)
EVERYTHING = ViewsConfig(
    groups=(
        CropGroup(count=2, size=16, area=(0.3, 1.0), mask=PatchMask(patch_size=4, ratio=(0.2, 0.6), kind="block")),
        CropGroup(
            count=3,
            size=8,
            area=(0.1, 0.3),
            mask=PatchMask(patch_size=2),
            mean=(0.5, 0.5, 0.5),
            augmentation=Augmentation(policy=TrivialAugment(name="trivial_augment", operations=ALL_OPERATIONS[1::2])),
        ),
    ),
    augmentation=Augmentation(
        rotation=Rotation(),
        policy=RandAugment(name="rand_augment", operations=ALL_OPERATIONS[::2], magnitude_std=2),
        colour_jitter=ColourJitter(),
        blur=Blur(probability=0.5, sigma=(0.1, 1.0)),
        solarise=Solarise(),
        gaussian_noise=GaussianNoise(),
        operators=(UserOperator(function=f"{__name__}:dimmed", probability=0.5),),
    ),
)


def dimmed(view: Any, uniform: Any) -> Any:
    """An operator of a user: between half as bright and unchanged."""
    return fn.brightness(view, brightness=0.5 + 0.5 * uniform)


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Files of various sizes."""
    folder: Path = tmp_path_factory.mktemp("jpegs")
    rng = np.random.default_rng(0)
    sizes_HW = rng.integers(20, 60, (NUM_IMAGES, 2)).astype(np.int32)
    paths = []
    for index, (height, width) in enumerate(sizes_HW):
        path = folder / f"bild ä {index}.jpg"
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(path, quality=95)
        paths.append(str(path))
    return ImageSet(labels=np.arange(NUM_IMAGES) % 5, sizes_HW=sizes_HW, paths=tuple(paths))


@contextmanager
def loader(
    images: ImageSet,
    *,
    batch_size: int = 4,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 7,
    num_threads: int = 1,
    prefetch_batches: int = 2,
    start_batch: int = 0,
    views: ViewsConfig = USUAL,
) -> Iterator[TrainingViews]:
    made = TrainingViews(
        images,
        views,
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        seed=seed,
        device=torch.device("cpu"),
        num_threads=num_threads,
        prefetch_batches=prefetch_batches,
        start_batch=start_batch,
    )
    yield made
    made.close()


def take(images: ImageSet, count: int, views: ViewsConfig = USUAL, **settings: int) -> list[MultiCropBatch]:
    with loader(images, views=views, **settings) as batches:  # type: ignore[arg-type]
        return [next(batches) for _ in range(count)]


def assert_same(ours: MultiCropBatch, theirs: MultiCropBatch) -> None:
    assert torch.equal(ours.ids, theirs.ids)
    assert torch.equal(ours.labels, theirs.labels)
    for our_crops, their_crops in zip(ours.crops, theirs.crops, strict=True):
        assert torch.equal(our_crops, their_crops)
    for our_masks, their_masks in zip(ours.masks, theirs.masks, strict=True):
        assert (our_masks is None) == (their_masks is None)
        if our_masks is not None and their_masks is not None:
            assert torch.equal(our_masks, their_masks)


def test_a_batch_has_the_shapes_and_types_that_it_promises(jpegs: ImageSet) -> None:
    (batch,) = take(jpegs, 1, EVERYTHING)
    assert [tuple(crops.shape) for crops in batch.crops] == [(2, 4, 3, 16, 16), (3, 4, 3, 8, 8)]
    assert all(crops.dtype == torch.float32 and crops.is_contiguous() for crops in batch.crops)
    assert (batch.ids.dtype, batch.labels.dtype) == (torch.int64, torch.int64)
    assert [None if mask is None else tuple(mask.shape) for mask in batch.masks] == [(2, 4, 4, 4), (3, 4, 4, 4)]
    np.testing.assert_array_equal(batch.labels, jpegs.labels[batch.ids.numpy()])


def test_masks_are_those_of_the_batchs_place_in_its_epoch(jpegs: ImageSet) -> None:
    for batch, (epoch, first) in zip(take(jpegs, 6, EVERYTHING), [(0, 0), (0, 4), (0, 8), (0, 12), (0, 16), (1, 0)]):
        expected = draw_masks(EVERYTHING, 4, seed=7, epoch=epoch, first_position=first)
        for ours, theirs in zip(batch.masks, expected, strict=True):
            assert ours is not None
            assert theirs is not None
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("views", "settings"),
    [
        (USUAL, {"num_threads": 2}),
        (USUAL, {"prefetch_batches": 1}),
        (USUAL, {"prefetch_batches": 4}),
        (EVERYTHING, {"num_threads": 2, "prefetch_batches": 4}),
    ],
)
def test_threads_and_prefetching_change_no_byte(jpegs: ImageSet, views: ViewsConfig, settings: dict[str, int]) -> None:
    for ours, theirs in zip(take(jpegs, 7, views), take(jpegs, 7, views, **settings), strict=True):
        assert_same(ours, theirs)


def test_another_seed_gives_other_batches(jpegs: ImageSet) -> None:
    (ours,), (theirs,) = take(jpegs, 1), take(jpegs, 1, seed=8)
    assert not torch.equal(ours.ids, theirs.ids)


@pytest.mark.parametrize("views", [USUAL, EVERYTHING])
def test_two_ranks_see_the_halves_of_one_ranks_batches(jpegs: ImageSet, views: ViewsConfig) -> None:
    whole = take(jpegs, 7, views, batch_size=4)
    halves = [take(jpegs, 7, views, batch_size=2, rank=rank, world_size=2) for rank in (0, 1)]
    for single, *parts in zip(whole, *halves, strict=True):
        joined = MultiCropBatch(
            crops=tuple(torch.cat(crops, dim=1) for crops in zip(*(part.crops for part in parts))),
            ids=torch.cat([part.ids for part in parts]),
            labels=torch.cat([part.labels for part in parts]),
            masks=tuple(joined_masks(masks) for masks in zip(*(part.masks for part in parts))),
        )
        assert_same(single, joined)


def joined_masks(masks: tuple[torch.Tensor | None, ...]) -> torch.Tensor | None:
    given = [mask for mask in masks if mask is not None]
    assert len(given) in (0, len(masks))
    return torch.cat(given, dim=1) if given else None


@pytest.mark.parametrize(("views", "consumed"), [(USUAL, 1), (USUAL, 4), (USUAL, 5), (USUAL, 13), (EVERYTHING, 4)])
def test_a_start_after_some_batches_goes_on_byte_for_byte(jpegs: ImageSet, views: ViewsConfig, consumed: int) -> None:
    """5 batches per epoch: in its middle, before its end, at its end, two epochs on."""
    whole = take(jpegs, consumed + 6, views)
    for ours, theirs in zip(whole[consumed:], take(jpegs, 6, views, start_batch=consumed), strict=True):
        assert_same(ours, theirs)


def test_batches_consumed_counts_what_was_handed_out_and_not_what_was_prefetched(jpegs: ImageSet) -> None:
    with loader(jpegs, start_batch=3, prefetch_batches=4) as batches:
        assert (batches.batches_consumed, batches.batches_per_epoch) == (3, 5)
        next(batches)
        next(batches)
        assert batches.batches_consumed == 5


def test_an_image_comes_at_most_once_an_epoch_and_the_ones_left_out_change(jpegs: ImageSet) -> None:
    batches = take(jpegs, 15)
    epochs = [torch.cat([batch.ids for batch in batches[first : first + 5]]) for first in (0, 5, 10)]
    for ids in epochs:
        assert len(ids.unique()) == len(ids) == 20
    assert not torch.equal(epochs[0], epochs[1])
    left_out = [set(range(NUM_IMAGES)) - set(ids.tolist()) for ids in epochs]
    assert len(set(map(frozenset, left_out))) > 1


def test_an_image_is_cut_anew_each_epoch(jpegs: ImageSet) -> None:
    batches = take(jpegs, 10)
    seen = {int(image): batch.crops[0][:, row] for batch in batches[:5] for row, image in enumerate(batch.ids)}
    again = [
        (seen[int(image)], batch.crops[0][:, row])
        for batch in batches[5:]
        for row, image in enumerate(batch.ids)
        if int(image) in seen
    ]
    assert len(again) >= 18
    assert not any(torch.equal(before, now) for before, now in again)


def test_a_batch_stays_as_it_was_while_later_ones_are_made(jpegs: ImageSet) -> None:
    with loader(jpegs) as batches:
        first = next(batches)
        copies = [crops.clone() for crops in first.crops]
        for _ in range(12):
            next(batches)
        assert all(torch.equal(crops, copy) for crops, copy in zip(first.crops, copies, strict=True))
    assert all(torch.equal(crops, copy) for crops, copy in zip(first.crops, copies, strict=True))


def test_pixels_in_memory_and_lossless_files_of_them_give_the_same_bytes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 24, 30, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    labels, sizes_HW = np.zeros(8, np.int64), np.tile(np.array([[24, 30]], np.int32), (8, 1))
    in_memory = ImageSet(labels=labels, sizes_HW=sizes_HW, pixels=pixels)
    on_disk = ImageSet(
        labels=labels, sizes_HW=sizes_HW, paths=tuple(str(tmp_path / f"{index}.png") for index in range(8))
    )
    for ours, theirs in zip(take(in_memory, 3), take(on_disk, 3), strict=True):
        assert_same(ours, theirs)


def test_closing_twice_is_harmless(jpegs: ImageSet) -> None:
    with loader(jpegs) as batches:
        next(batches)
        batches.close()
