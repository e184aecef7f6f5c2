"""The nearest class mean: one prototype per class, nothing to train.

Letters: S points of the grid, C classes, D width, B images of a block.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.class_probe import ClassProbeConfig
from issl_engine.probing.probes.fitting.predictor import Predictor, likeliest
from issl_engine.probing.probes.grid import Point

Distance = Literal["cosine", "euclidean"]


class NearestMeanProbeConfig(ClassProbeConfig):
    """The class whose training images have the nearest mean (Mensink et al. 2013; Snell et al. 2017)."""

    name: Literal["nearest_mean"] = "nearest_mean"
    distances: Annotated[tuple[Distance, ...], Field(min_length=1)] = ("cosine", "euclidean")
    """The grid: euclidean compares features as they are; cosine scales them, and then the means, to length one."""

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"distance": self.distances}

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> "ClassMeans":
        distances = tuple("cosine" if point["distance"] == "cosine" else "euclidean" for point in points)
        shape = (len(points), data.num_classes, features.width)
        sum_SCD = torch.zeros(shape, dtype=torch.float64, device=data.device)
        for part, x_BD in features.blocks(data.device):
            labels_B = features.labels_N[part].to(data.device)
            for sum_CD, distance in zip(sum_SCD, distances, strict=True):
                sum_CD.index_add_(0, labels_B, _scaled(x_BD, distance).double())
        count_C1 = features.labels_N.bincount(minlength=data.num_classes).to(data.device)[:, None]
        mean_SCD = (sum_SCD / count_C1.clamp(min=1)).float()
        return ClassMeans(mean_SCD, count_C1[:, 0] > 0, distances)


class ClassMeans(Predictor):
    """The means as measured by each distance. A class without images is never predicted."""

    def __init__(self, mean_SCD: Tensor, present_C: Tensor, distances: Sequence[str]) -> None:
        self.mean_SCD, self.present_C, self.distances = mean_SCD, present_C, distances

    def predict(self, x_BD: Tensor) -> Tensor:
        return self._distances(x_BD).argmin(2)

    def ranked(self, x_BD: Tensor, count: int) -> Tensor:
        return likeliest(-self._distances(x_BD), count)

    def state(self) -> dict[str, Tensor]:
        return {"means": self.mean_SCD, "present": self.present_C}

    def _distances(self, x_BD: Tensor) -> Tensor:
        """[s, b, c]; infinite to a class without images."""
        return torch.stack(
            [
                _distances(_scaled(x_BD, distance), _scaled(mean_CD, distance)).masked_fill(~self.present_C, torch.inf)
                for mean_CD, distance in zip(self.mean_SCD, self.distances, strict=True)
            ]
        )


def _scaled(x_BD: Tensor, distance: str) -> Tensor:
    return F.normalize(x_BD, dim=1) if distance == "cosine" else x_BD


def _distances(x_BD: Tensor, mean_CD: Tensor) -> Tensor:
    """Squared Euclidean [b, c], less each image's own square: it moves no minimum. On unit vectors, the cosine's."""
    return mean_CD.square().sum(1) - 2 * x_BD @ mean_CD.T
