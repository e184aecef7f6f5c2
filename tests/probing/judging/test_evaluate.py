"""From images to probe results: which images are read, what is reported, and that it says what it is."""

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from issl_engine.probing.config import EvaluationConfig
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.evaluate import evaluate
from issl_engine.probing.judging.results import results_from_json, results_to_json
from issl_engine.probing.probes.base import FitData, Fitted, ProbeConfig, ProbeResult
from issl_engine.probing.probes.knn import KNNProbeConfig
from issl_engine.probing.probes.linear_sgd import LinearSGDProbeConfig
from issl_engine.probing.probes.regression import RegressionProbeConfig
from issl_engine.sources.base import Dataset, ImageSet, TargetTable
from issl_engine.views.preprocessing import Preprocessing

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
    evaluation = EvaluationConfig(**{"resize": 16, "crop": 16} | keys)
    preprocessing = Preprocessing(
        resize=evaluation.resize, crop=evaluation.crop, mean=(0.0,) * 3, std=(1 / 255,) * 3, interpolation="bilinear"
    )
    return evaluate(
        encoder=encoder, dataset=data, evaluation=evaluation, probes=probes, preprocessing=preprocessing, seed=seed,
        device=torch.device("cpu"), num_threads=1,
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
    linear, knn = run(dataset(), LinearSGDProbeConfig(epochs=3), KNNProbeConfig(), seed=3)
    assert (linear.probe, knn.probe) == ("linear_sgd", "knn")
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


def copied(train: ImageSet, test: ImageSet) -> ImageSet:
    """The test images, the fourth of them a training image."""
    assert train.pixels is not None
    assert test.pixels is not None
    pixels = test.pixels.copy()
    pixels[3] = train.pixels[50]
    return dataclasses.replace(test, pixels=pixels)


def test_a_test_image_that_was_fitted_is_an_error_unless_the_recipe_allows_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clean = dataset()
    leaking = dataclasses.replace(clean, test=copied(clean.train, clean.test))
    with pytest.raises(ValueError, match=r"1 of 30 judged images .*image 3 is image 50"):
        run(leaking, KNNProbeConfig())
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        run(clean, KNNProbeConfig(), allow_shared_images=True)
        assert not caplog.text
        run(leaking, KNNProbeConfig(), allow_shared_images=True)
    assert "1 of 30 judged images" in caplog.text


def test_equal_images_inside_the_training_split_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    train = images(90, 0)
    assert train.pixels is not None
    train.pixels[45:] = train.pixels[:45]
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        run(dataset(train), KNNProbeConfig(), report_on="held_out", held_out_fraction=0.2)
    assert "of 18 judged images are in the training split too" in caplog.text


def test_a_leaking_probe_stops_the_run_where_leaks_are_looked_for() -> None:
    class Peeking(Recorder):
        name: str = "peeking"

        def fit(self, data: FitData) -> "Recorded":
            return Peeked(data)

    class Peeked(Recorded):
        def state(self) -> dict:
            return {"all": torch.cat(self.data.train._stores)}

    run(dataset(), Peeking(), report_on="held_out")
    run(dataset(), Recorder(), report_on="held_out", check_leaks=True)
    with pytest.raises(ValueError, match="peeking depends on the images that judge it"):
        run(dataset(), Peeking(), report_on="held_out", check_leaks=True)


def test_targets_of_the_source_reach_the_probes() -> None:
    def with_values(part: ImageSet) -> ImageSet:
        values_NT = part.labels[:, None].astype(np.float32)
        return dataclasses.replace(part, values=TargetTable(names=("label",), values_NT=values_NT))

    clean = dataset()
    data = dataclasses.replace(clean, train=with_values(clean.train), test=with_values(clean.test))
    for part in parts(data, max_train_images=60):
        assert part.values is not None
        assert part.values.values_NT[:, 0].tolist() == part.labels_N.tolist()
    with pytest.raises(ValueError, match="no numbers to predict"):
        run(clean, RegressionProbeConfig())


def test_images_without_a_class_are_refused_by_probes_of_classes() -> None:
    unlabelled = images(90, 0, labels=np.where(np.arange(90) < 4, -1, np.arange(90) % CLASSES))
    with pytest.raises(ValueError, match=r"images to probe have no class \(label -1\)"):
        run(dataset(unlabelled), KNNProbeConfig())


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
    results = run(dataset(), LinearSGDProbeConfig(epochs=1), KNNProbeConfig())
    assert results_from_json(json.loads(json.dumps(results_to_json(results)))) == results
    with pytest.raises(TypeError):
        results_from_json([{"probe": "linear", "colour": "blue"}])
