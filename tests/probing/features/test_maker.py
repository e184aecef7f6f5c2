"""Features from the cache: those of another encoder, image or preprocessing are never taken, the same ones always."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from issl_engine.probing.features.cache import FeatureCache
from issl_engine.probing.features.maker import FeatureMaker
from issl_engine.sources.base import ImageSet
from issl_engine.views.corruptions import Corruption
from issl_engine.views.preprocessing import Preprocessing


class Counting(nn.Module):
    """Mean colours, and how many images went through."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.mean(dim=(2, 3)) * self.scale


def images(seed: int = 0) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    return ImageSet(labels=np.arange(10) % 3, sizes_HW=np.full((10, 2), 16, np.int32), pixels=pixels)


def maker(
    folder: Path | None, key: str = "e", corruption: Corruption | None = None, **preprocessing
) -> FeatureMaker:  # fmt: skip
    settings = {"resize": 16, "crop": 12, "mean": (0.5,) * 3, "std": (0.2,) * 3, "interpolation": "bilinear"}
    return FeatureMaker(
        encoder=Counting(), encoder_key=key, preprocessing=Preprocessing(**settings | preprocessing),
        corruption=corruption, device=torch.device("cpu"), batch_size=4, num_threads=1,
        cache=None if folder is None else FeatureCache(folder=folder),
    )  # fmt: skip


def seen(one: FeatureMaker) -> int:
    assert isinstance(one.encoder, Counting)
    return one.encoder.seen


def test_a_second_call_runs_no_encoder_and_gives_the_same_bits(tmp_path: Path) -> None:
    plain = maker(None).features(images())
    first, second = maker(tmp_path), maker(tmp_path)
    for one in (first, second):
        features = one.features(images())
        assert torch.equal(features.x_ND, plain.x_ND)
        assert torch.equal(features.labels_N, plain.labels_N)
    assert (seen(first), seen(second)) == (10, 0)


def test_labels_are_the_images_own_and_not_the_caches(tmp_path: Path) -> None:
    maker(tmp_path).features(images())
    again = maker(tmp_path)
    relabelled = replace(images(), labels=np.arange(10)[::-1] % 3)
    assert again.features(relabelled).labels_N.tolist() == relabelled.labels.tolist()
    assert seen(again) == 0


@pytest.mark.parametrize(
    "other",
    [
        {"key": "f"},
        {"resize": 18},
        {"crop": 11},
        {"mean": (0.5, 0.5, 0.4)},
        {"std": (0.2, 0.2, 0.3)},
        {"interpolation": "bicubic"},
        {"corruption": Corruption(kind="contrast", strength=1)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_encoder_or_preprocessing_is_computed(tmp_path: Path, other: dict) -> None:
    maker(tmp_path).features(images())
    different = maker(tmp_path, **other)
    different.features(images())
    assert seen(different) == 10


def test_other_images_strengths_seeds_and_types_are_computed(tmp_path: Path) -> None:
    weak = Corruption(kind="gaussian_noise", strength=1)
    maker(tmp_path, corruption=weak).features(images())
    for corruption in (replace(weak, strength=2), replace(weak, seed=1)):
        different = maker(tmp_path, corruption=corruption)
        different.features(images())
        assert seen(different) == 10
    different = maker(tmp_path, corruption=weak)
    different.features(images(seed=1))
    assert seen(different) == 10
    half = replace(maker(tmp_path, corruption=weak), cache=FeatureCache(folder=tmp_path, stored="float16"))
    exact = maker(None, corruption=weak).features(images()).x_ND
    assert torch.equal(half.features(images()).x_ND, exact.half().float())
    assert seen(half) == 10


def test_a_damaged_file_is_reported_and_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = maker(tmp_path).features(images()).x_ND.clone()
    (path,) = tmp_path.glob("*.features")
    path.write_bytes(path.read_bytes()[:-3])
    again = maker(tmp_path)
    assert torch.equal(again.features(images()).x_ND, rows)
    assert seen(again) == 10
    assert "made anew" in caplog.text
    third = maker(tmp_path)
    third.features(images())
    assert seen(third) == 0


def test_features_that_are_nan_are_not_kept(tmp_path: Path) -> None:
    broken = maker(tmp_path)
    assert isinstance(broken.encoder, Counting)
    broken.encoder.scale.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="10 of 10 images are NaN or infinite"):
        broken.features(images())
    assert list(tmp_path.glob("*.features")) == []
