"""The graph for a GPU can be laid out where there is none: its arguments are known, its crops end on the GPU.

Whether it runs, and to which pixels, only a GPU shows (test_gpu.py).
"""

import numpy as np
import pytest
import torch
from nvidia.dali.pipeline import Pipeline

from issl_engine.loading.evaluation import _evaluation_graph
from issl_engine.loading.images import ImageInputs, num_channels
from issl_engine.loading.training import _training_graph
from issl_engine.sources.base import ImageSet
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.noise import GaussianNoise
from issl_engine.views.augmentations.rotation import Rotation
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.corruptions import Corruption, CorruptionInputs, CorruptionKind, CorruptionsConfig
from issl_engine.views.policies.rand_augment import RandAugment
from issl_engine.views.preprocessing import Preprocessing
from issl_engine.views.streams import ViewStreams

EVERYTHING = ViewsConfig(
    groups=(CropGroup(count=2, size=32), CropGroup(count=3, size=16)),
    augmentation=Augmentation(
        blur=Blur(), solarise=Solarise(), rotation=Rotation(), policy=RandAugment(name="rand_augment"),
        gaussian_noise=GaussianNoise(),
    ),
)  # fmt: skip
SIZES = np.tile(np.array([[48, 64]], np.int32), (4, 1))
LABELS = np.zeros(4, np.int64)


PREPROCESSING = Preprocessing(resize=40, crop=32, mean=(0.5,) * 3, std=(0.2,) * 3, interpolation="bilinear")


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
@pytest.mark.parametrize("stored", ["files", "grey pixels"])
def test_every_crop_ends_on_the_gpu_and_the_sizes_on_the_host(stored: str, layout: str) -> None:
    if stored == "files":
        images = ImageSet(labels=LABELS, sizes_HW=SIZES, paths=tuple("abcd"))
    else:
        images = ImageSet(labels=LABELS, sizes_HW=SIZES, pixels=np.zeros((4, 48, 64, 1), np.uint8))
    streams = ViewStreams(EVERYTHING, seed=0, channels=num_channels(images))
    pipeline = Pipeline(batch_size=2, num_threads=1, device_id=0, exec_dynamic=True)
    with pipeline:
        *crops, shapes = _training_graph(ImageInputs(images), EVERYTHING, streams, dict, torch.device("cuda"), layout)
    assert [crop.device for crop in crops] == ["gpu"] * 5
    assert shapes.device == "cpu"


@pytest.mark.parametrize("kind", CorruptionsConfig().kinds)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_corrupted_image_ends_on_the_gpu(kind: CorruptionKind, channels: int) -> None:
    images = ImageSet(labels=LABELS, sizes_HW=SIZES, pixels=np.zeros((4, 48, 64, channels), np.uint8))
    corruption = Corruption(kind=kind, strength=2)
    pipeline = Pipeline(batch_size=2, num_threads=1, device_id=0, exec_dynamic=True)
    with pipeline:
        view, shapes = _evaluation_graph(
            ImageInputs(images), CorruptionInputs(corruption, 32, channels), True, PREPROCESSING, corruption, dict,
            torch.device("cuda"),
        )  # fmt: skip
    assert (view.device, shapes.device) == ("gpu", "cpu")
