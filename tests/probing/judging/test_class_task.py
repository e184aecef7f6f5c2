"""Accuracies of classes: top-1, top-5 and the mean over classes, against definitions written apart."""

import numpy as np
import pytest
import torch
from torch import Tensor

import issl_engine.probing.probes as probing
from issl_engine.probing.features.features import CPU, Features
from issl_engine.probing.judging.bootstrap import mean_share_interval, share_interval
from issl_engine.probing.judging.class_task import ClassTask
from issl_engine.probing.probes.base import FitData, ProbeConfig
from issl_engine.probing.probes.class_probe import ClassProbeConfig
from issl_engine.probing.probes.fitting.predictor import LinearClassifier
from issl_engine.variants import variants

from ..conftest import NUM_CLASSES, RowsAsCrops, blobs
from .test_leak_check import QUICK

CLASSES = 7
CLASS_PROBES = {
    name: probe for name, probe in variants(probing, ProbeConfig).items() if issubclass(probe, ClassProbeConfig)
}


def identity() -> LinearClassifier:
    """Whose outputs are the features."""
    return LinearClassifier(
        weights_SCD=torch.eye(CLASSES)[None], bias_SC=torch.zeros(1, CLASSES),
        scale_G1D=torch.ones(1, 1, CLASSES), offset_G1D=torch.zeros(1, 1, CLASSES),
    )  # fmt: skip


def images() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    labels_N = (torch.rand(300, generator=random).square() * CLASSES).long()  # unequal classes
    return torch.randn(300, CLASSES, generator=random) + torch.nn.functional.one_hot(labels_N, CLASSES), labels_N


def test_each_metric_is_its_definition() -> None:
    x_ND, labels_N = images()
    verdicts = ClassTask(("mean_per_class", "top5", "top1", "top1")).judge(
        identity(), Features(x_ND=x_ND, labels_N=labels_N), CPU, 0
    )
    order = np.argsort(-x_ND.numpy(), axis=1)
    right = order[:, 0] == labels_N.numpy()
    expected = {
        "mean_per_class": 100 * np.mean([right[labels_N.numpy() == c].mean() for c in range(CLASSES)]),
        "top5": 100 * np.mean([label in five for label, five in zip(labels_N.numpy(), order[:, :5], strict=True)]),
        "top1": 100 * right.mean(),
    }
    assert {verdict.metric: verdict.value for verdict in verdicts} == pytest.approx(expected)
    assert len(set(expected.values())) == 3
    for verdict in verdicts:
        low, high = verdict.interval
        assert 0 <= low < verdict.value < high <= 100


def test_the_mean_over_classes_has_the_interval_of_drawing_images() -> None:
    x_ND, labels_N = images()
    right_N = (x_ND.argmax(1) == labels_N).numpy()
    random = np.random.default_rng(0)
    means = []
    for _ in range(1000):
        drawn = random.integers(300, size=300)
        right, labels = right_N[drawn], labels_N.numpy()[drawn]
        means.append(100 * np.mean([right[labels == c].mean() for c in range(CLASSES) if (labels == c).any()]))
    right_C = np.array([right_N[labels_N.numpy() == c].sum() for c in range(CLASSES)])
    images_C = np.bincount(labels_N.numpy(), minlength=CLASSES)
    assert mean_share_interval(right_C, images_C, 0) == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=1.0)


def test_with_equal_classes_the_mean_over_classes_is_top1() -> None:
    low, high = mean_share_interval(np.array([50]), np.array([80]), 0)
    assert (low, high) == pytest.approx(share_interval(50, 80, 0), abs=1.5)


def test_the_first_metric_chooses() -> None:
    x_ND, labels_N = images()
    features = Features(x_ND=x_ND, labels_N=labels_N)
    for metric in ("top1", "top5", "mean_per_class"):
        (verdict,) = ClassTask((metric,)).judge(identity(), features, CPU, 0)
        assert ClassTask((metric, "top1")).scores(identity(), features, CPU) == pytest.approx([verdict.value])


@pytest.mark.parametrize("name", sorted(CLASS_PROBES))
def test_every_probe_of_classes_ranks_them(name: str) -> None:
    train, test = blobs(150, seed=0, noise=2), blobs(100, seed=1, noise=2)
    probe = CLASS_PROBES[name](metrics=("top1", "top5"), **QUICK.get(name, {}))
    top1, top5 = probe.fit(data_of(train)).judge(test)
    assert (top1.metric, top5.metric) == ("top1", "top5")
    assert top1.value < top5.value <= 100
    fitted = probe.fit_points(train, probe.points()[:1], data_of(train))
    ranked_BK = fitted.ranked(test.x_ND, 3)[0]
    assert torch.equal(ranked_BK[:, 0], fitted.predict(test.x_ND)[0])
    for row in ranked_BK.tolist():
        told = [label for label in row if label >= 0]
        assert len(set(told)) == len(told)


def test_neighbours_and_means_rank_no_class_that_they_have_not_seen() -> None:
    train = blobs(150, seed=0)
    for name in ("knn", "nearest_mean", "linear"):
        probe = CLASS_PROBES[name]()
        ranked = probe.fit_points(train, probe.points()[:1], data_of(train)).ranked(train.x_ND, 8)
        assert int(ranked.max()) < NUM_CLASSES


def data_of(features: Features) -> FitData:
    """With three classes that no image is of."""
    return FitData(train=features, held_out=features, num_classes=NUM_CLASSES + 3, seed=0, crops=RowsAsCrops())
