"""On a GPU the loader gives the CPU's crops, and copies of them."""

from typing import Any

import numpy as np
import pytest
import torch
from nvidia.dali import types
from PIL import Image

from issl_engine.loading import EvaluationImages, TrainingViews
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.noise import GaussianNoise
from issl_engine.views.augmentations.rotation import Rotation
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.augmentations.user import UserOperator
from issl_engine.views.batch import MultiCropBatch
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.masks import PatchMask
from issl_engine.views.policies.rand_augment import RandAugment
from issl_engine.views.policies.trivial_augment import TrivialAugment
from issl_engine.views.preprocessing import Preprocessing

pytestmark = pytest.mark.gpu
VIEWS = ViewsConfig(
    groups=(CropGroup(count=2, size=32), CropGroup(count=4, size=16, area=(0.1, 0.4))),
    augmentation=Augmentation(blur=Blur(), solarise=Solarise()),
)


@pytest.fixture(scope="module", params=["jpeg", "grey pixels"])
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)) for _ in range(64)]
    smooth = [image.resize((64, 48), Image.Resampling.BICUBIC) for image in coarse]
    labels, sizes_HW = np.zeros(64, np.int64), np.tile(np.array([[48, 64]], np.int32), (64, 1))
    if request.param == "grey pixels":
        pixels = np.stack([np.asarray(image.convert("L")) for image in smooth])[..., None]
        return ImageSet(labels=labels, sizes_HW=sizes_HW, pixels=pixels)
    folder = tmp_path_factory.mktemp("jpeg")
    for index, image in enumerate(smooth):
        image.save(folder / f"{index}.jpg", quality=95)
    paths = tuple(str(folder / f"{index}.jpg") for index in range(64))
    return ImageSet(labels=labels, sizes_HW=sizes_HW, paths=paths)


FURTHER = ViewsConfig(
    groups=(
        CropGroup(count=2, size=32, mask=PatchMask(patch_size=8)),
        CropGroup(count=2, size=16, augmentation=Augmentation(policy=TrivialAugment(name="trivial_augment"))),
    ),
    augmentation=Augmentation(
        rotation=Rotation(),
        policy=RandAugment(name="rand_augment"),
        gaussian_noise=GaussianNoise(),
        operators=(UserOperator(function=f"{__name__}:inverted", probability=0.3),),
    ),
)


def inverted(view: Any, uniform: Any) -> Any:
    """An operator of a user."""
    return types.Constant(255, dtype=types.DALIDataType.UINT8) - view


def take(images: ImageSet, device: str, count: int, views: ViewsConfig = VIEWS) -> list[MultiCropBatch]:
    loader = TrainingViews(
        images, views, batch_size=16, rank=0, world_size=1, seed=0, device=torch.device(device), num_threads=2
    )
    batches = [next(loader) for _ in range(count)]
    loader.close()
    return batches


def test_the_gpu_gives_the_cpus_crops(images: ImageSet) -> None:
    """Twelve batches are held at once: none may be written over by a later one."""
    for ours, theirs in zip(take(images, "cuda", 12), take(images, "cpu", 12), strict=True):
        assert torch.equal(ours.ids, theirs.ids)
        for our_crops, their_crops in zip(ours.crops, theirs.crops, strict=True):
            assert our_crops.device.type == "cuda"
            difference = (our_crops.cpu() - their_crops).abs() * 0.225 * 255
            # solarisation turns one level about its threshold into many
            assert difference.median() <= 1
            assert difference.mean() <= 4


def test_the_gpu_gives_the_cpus_policies_rotation_noise_and_operators(images: ImageSet) -> None:
    for ours, theirs in zip(take(images, "cuda", 4, FURTHER), take(images, "cpu", 4, FURTHER), strict=True):
        for our_crops, their_crops in zip(ours.crops, theirs.crops, strict=True):
            difference = (our_crops.cpu() - their_crops).abs() * 0.225 * 255
            # solarisation, posterisation and equalisation turn one level into many
            assert difference.median() <= 2
            assert difference.mean() <= 6
        assert ours.masks[0] is not None
        assert theirs.masks[0] is not None
        assert torch.equal(ours.masks[0], theirs.masks[0])


def test_the_gpu_gives_the_cpus_evaluation_images(images: ImageSet) -> None:
    def crops(device: str) -> torch.Tensor:
        batches = EvaluationImages(
            images,
            Preprocessing(resize=40, crop=32, mean=VIEWS.mean, std=VIEWS.std, interpolation="bilinear"),
            batch_size=24,
            device=torch.device(device),
            num_threads=2,
        )
        return torch.cat([batch.cpu() for batch, _ in batches])

    assert ((crops("cuda") - crops("cpu")).abs() * 0.225 * 255).mean() <= 2


def test_crops_come_in_the_memory_order_and_type_that_are_asked_for(images: ImageSet) -> None:
    found = []
    for dtype, channels_last in ((torch.float32, False), (torch.bfloat16, True)):
        loader = TrainingViews(
            images, VIEWS, batch_size=16, rank=0, world_size=1, seed=0, device=torch.device("cuda"), num_threads=2,
            dtype=dtype, channels_last=channels_last,
        )  # fmt: skip
        found.append(next(loader))
        loader.close()
    for plain, last in zip(found[0].crops, found[1].crops, strict=True):
        assert last.device.type == "cuda"
        assert torch.equal(plain.bfloat16(), last)
        assert last.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_the_gpu_s_memory_does_not_grow(images: ImageSet) -> None:
    loader = TrainingViews(
        images, VIEWS, batch_size=16, rank=0, world_size=1, seed=0, device=torch.device("cuda"), num_threads=2
    )
    used = []
    for _ in range(300):
        next(loader)
        free, total = torch.cuda.mem_get_info()
        used.append(total - free)
    loader.close()
    assert used[-1] == used[30]
