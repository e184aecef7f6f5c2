"""From images to probe results: which images are read, what is reported, and that it says what it is."""

import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from issl_engine.data.sources.base import Dataset, ImageSet
from issl_engine.probing.base import FitData, Fitted, ProbeConfig, ProbeResult
from issl_engine.probing.evaluate import evaluate
from issl_engine.probing.feature_view import Features
from issl_engine.probing.knn import KNNProbeConfig
from issl_engine.probing.linear import LinearProbeConfig
from issl_engine.probing.results import results_from_json, results_to_json
from issl_engine.recipe.schema import EvaluationConfig

CLASSES = 3


def images(count: int, seed: int, labels: NDArray[np.int64] | None = None) -> ImageSet:
    """Uniform colour by class under noise; the first pixel's first channel is the image's own number."""
    random = np.random.default_rng(seed)
    if labels is None:
        labels = np.arange(count, dtype=np.int64) % CLASSES
    pixels = 60 + 60 * np.eye(3)[labels][:, None, None] + random.normal(0, 20, (count, 16, 16, 3))
    rounded = pixels.clip(0, 255).astype(np.uint8)
    rounded[:, 0, 0, 0] = np.arange(count)
    return ImageSet(labels=labels, sizes_HW=np.full((count, 2), 16, dtype=np.int32), pixels=rounded)


def dataset(train: ImageSet | None = None) -> Dataset:
    return Dataset(
        name="colours",
        classes=("red", "green", "blue"),
        train=images(90, 0) if train is None else train,
        test=images(30, 1),
    )


class NoTest(Dataset):
    """A dataset whose test split must not be touched."""

    def __getattribute__(self, name: str):
        if name == "test":
            raise AssertionError("the test split was read")
        return super().__getattribute__(name)


class Recorder(ProbeConfig):
    """Keeps the parts that it is given."""

    name: str = "recorder"

    def fit(self, data: FitData) -> "Recorded":
        return Recorded(data)


class Recorded(Fitted):
    def __init__(self, data: FitData) -> None:
        self.data = data

    def judge(self, judged: Features) -> list[ProbeResult]:
        _parts.append((self.data.train, self.data.held_out, judged))
        return [
            ProbeResult(
                probe="recorder", metric="top1", value=value, split="test", num_train_images=len(self.data.train),
                num_split_images=len(judged), held_out_value=0.0, seed=self.data.seed,
            )
            for value in (1.0, 2.0)
        ]  # fmt: skip

    def state(self) -> dict:
        return {}


_parts: list[tuple[Features, Features, Features]] = []


def run(
    data: Dataset, *probes: ProbeConfig, encoder: nn.Module | None = None, seed: int = 0, **keys
) -> list[ProbeResult]:
    return evaluate(
        encoder=encoder, dataset=data, evaluation=EvaluationConfig(**{"resize": 16, "crop": 16} | keys),
        probes=probes, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), interpolation="bilinear",
        seed=seed, device=torch.device("cpu"), num_threads=1,
    )  # fmt: skip


def parts(data: Dataset, **keys) -> tuple[Features, Features, Features]:
    _parts.clear()
    run(data, Recorder(), **keys)
    return _parts[0]


def numbers(features: Features) -> list[int]:
    """Which images of their split these are."""
    return features.x_ND[:, 0].round().int().tolist()


def test_training_images_are_split_and_test_images_judged() -> None:
    train, held_out, test = parts(dataset(), held_out_fraction=0.2)
    assert sorted(numbers(train) + numbers(held_out)) == list(range(90))
    assert held_out.labels_N.bincount().tolist() == [6, 6, 6]
    assert numbers(test) == list(range(30))
    for part in (train, held_out, test):
        assert part.labels_N.tolist() == [number % CLASSES for number in numbers(part)]


def test_held_out_reports_never_read_the_test_split() -> None:
    whole = dataset()
    guarded = NoTest(name=whole.name, classes=whole.classes, train=whole.train, test=whole.test)
    train, held_out, judged = parts(guarded, held_out_fraction=0.2, report_on="held_out")
    assert sorted(numbers(train) + numbers(held_out) + numbers(judged)) == list(range(90))
    assert [len(part) for part in (train, held_out, judged)] == [57, 15, 18]
    (result,) = run(guarded, KNNProbeConfig(), report_on="held_out")
    assert result.split == "held_out"
    with pytest.raises(AssertionError, match="was read"):
        run(guarded, KNNProbeConfig())


def test_what_is_judged_with_held_out_is_what_is_held_out_with_test() -> None:
    assert numbers(parts(dataset(), report_on="held_out")[2]) == numbers(parts(dataset())[1])


def test_the_seed_draws_the_subset_and_the_split() -> None:
    first, again, other = (parts(dataset(), max_train_images=60, seed=seed) for seed in (0, 0, 1))
    assert len(first[0]) + len(first[1]) == 60
    assert numbers(first[0]) == numbers(again[0]) != numbers(other[0])
    assert numbers(first[2]) == list(range(30))


def test_results_say_what_they_are() -> None:
    linear, knn = run(dataset(), LinearProbeConfig(epochs=3), KNNProbeConfig(), seed=3)
    assert (linear.probe, knn.probe) == ("linear", "knn")
    for result in (linear, knn):
        assert result.value > 90
        assert (result.metric, result.split, result.seed) == ("top1", "test", 3)
        assert (result.num_train_images, result.num_split_images) == (90, 30)
        assert "16 px (bilinear)" in result.preprocessing
        assert "raw pixels averaged down to 16 px" in result.preprocessing
        assert result.grid
        assert result.chosen


def test_a_probe_may_give_several_results() -> None:
    results = run(dataset(), Recorder(), KNNProbeConfig(), report_on="held_out")
    assert [(result.probe, result.split) for result in results] == [
        ("recorder", "held_out"), ("recorder", "held_out"), ("knn", "held_out"),
    ]  # fmt: skip


def test_the_preprocessing_text_speaks_of_raw_pixels_only_where_they_are_probed() -> None:
    encoder = nn.Sequential(nn.AvgPool2d(16), nn.Flatten()).train()
    (result,) = run(dataset(), KNNProbeConfig(), encoder=encoder)
    assert "raw" not in result.preprocessing
    assert result.value > 90
    assert encoder.training


def test_classes_without_enough_images_are_named() -> None:
    few = images(5, 0, labels=np.array([0, 0, 1, 1, 2]))
    with pytest.raises(ValueError, match="class 2 has a single image"):
        run(dataset(few), KNNProbeConfig())
    pairs = images(6, 0, labels=np.array([0, 0, 1, 1, 2, 2]))
    assert len(run(dataset(pairs), KNNProbeConfig())) == 1
    with pytest.raises(ValueError, match="class 0 has a single image"):
        run(dataset(pairs), KNNProbeConfig(), report_on="held_out")


def test_results_survive_json() -> None:
    results = run(dataset(), LinearProbeConfig(epochs=1), KNNProbeConfig())
    assert results_from_json(json.loads(json.dumps(results_to_json(results)))) == results
    with pytest.raises(TypeError):
        results_from_json([{"probe": "linear", "colour": "blue"}])
