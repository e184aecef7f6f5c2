"""Features of overlapping Gaussian classes, so that no probe is perfect and hyper-parameters matter."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from issl_engine.probing.features.features import CPU, Features
from issl_engine.probing.probes.base import Crops, FitData, ProbeResult, TrainingCrops
from issl_engine.probing.probes.grid import FittedPoint, GridProbeConfig, Point

NUM_CLASSES = 5


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These problems are so small that on busy cores torch's threads mostly wait, spinning, for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blobs(count: int, seed: int, *, dim: int = 12, spread: float = 1.0, noise: float = 1.0) -> Features:
    """``count`` images with as many of each class as of any other, off centre and of unequal scale."""
    centres_CD = spread * torch.randn(NUM_CLASSES, dim, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(count) % NUM_CLASSES
    x_ND = centres_CD[labels_N] + noise * torch.randn(count, dim, generator=generator)
    return Features(x_ND=(x_ND + 3) * torch.linspace(0.5, 2, dim), labels_N=labels_N)


def fit_data(features: Features, *, held_out: Features | None = None, seed: int = 0) -> FitData:
    """What a probe is fitted with; where points are fitted one by one, nothing needs to be held out."""
    held_out = features if held_out is None else held_out
    return FitData(train=features, held_out=held_out, num_classes=NUM_CLASSES, seed=seed)


def top1(probe: GridProbeConfig, fit: Features, score: Features, grid: list[Point], *, seed: int = 0) -> list[float]:
    """In percent on ``score``, of each point fitted on ``fit``."""
    return probe.task.scores(probe.fit_points(fit, grid, fit_data(fit, seed=seed)), score, CPU)


class RowsAsCrops(TrainingCrops):
    """Stands for an encoder: a crop of an image has the image's own features, and some noise."""

    def batches(self, features: Features, crops: Crops, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(crops.epochs):
            order_N = torch.randperm(len(features), generator=generator)
            for index_B in order_N.split(crops.batch_size)[: len(features) // crops.batch_size]:
                rows_BD = features.batch(index_B, CPU)
                yield rows_BD + 0.1 * torch.randn(rows_BD.shape, generator=generator), features.labels_N[index_B]


def evaluated(
    probe: GridProbeConfig, train: Features, held_out: Features, test: Features, seed: int = 0
) -> ProbeResult:
    (result,) = probe.evaluate(train=train, held_out=held_out, test=test, num_classes=NUM_CLASSES, seed=seed)
    return result


def fitted(probe: GridProbeConfig, features: Features, point: Point) -> FittedPoint:
    return probe.fit_point(features, point, fit_data(features), held_out_value=None, how="")


def shuffled_labels(features: Features, seed: int = 0) -> Features:
    order_N = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    return Features(x_ND=features.x_ND, labels_N=features.labels_N[order_N])
