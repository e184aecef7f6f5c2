"""Weighted k-nearest neighbours in cosine similarity, in blocks of queries and of training images.

Letters: S points of the grid, N training images, C classes, m queries of a block, n training images of a block,
k neighbours.
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

BLOCK_ELEMENTS = 2**24
"""Largest block of similarities (64 MiB)."""


class KNNProbeConfig(ClassProbeConfig):
    """Votes of the k nearest training images, weighted by exp(cosine / temperature) (Wu et al. 2018)."""

    name: Literal["knn"] = "knn"
    ks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (5, 20, 100)
    """Numbers of neighbours of the grid; more than there are training images means all."""
    temperatures: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.07,)
    """Temperatures of the grid."""

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"k": self.ks, "temperature": self.temperatures}

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> "Neighbours":
        grid = [(int(point["k"]), float(point["temperature"])) for point in points]
        return Neighbours(features, grid, data.num_classes)


class Neighbours(Predictor):
    """The training images themselves; they are read anew for every block of queries."""

    def __init__(
        self, train: Features, grid: list[tuple[int, float]], num_classes: int, *, block_elements: int | None = None
    ) -> None:
        self.train, self.grid, self.num_classes = train, grid, num_classes
        self.block_elements = BLOCK_ELEMENTS if block_elements is None else block_elements
        self._most = min(max(k for k, _ in grid), len(train))

    def predict(self, x_BD: Tensor) -> Tensor:
        return self._votes(x_BD).argmax(2)

    def ranked(self, x_BD: Tensor, count: int) -> Tensor:
        votes_SBC = self._votes(x_BD)
        return likeliest(votes_SBC.masked_fill(votes_SBC == 0, -torch.inf), count)

    def _votes(self, x_BD: Tensor) -> Tensor:
        """float32 [s, b, c]."""
        # As many queries as leave room for a block of training images no smaller than the neighbours kept.
        step = max(1, self.block_elements // (2 * self._most))
        return torch.cat([self._votes_of(F.normalize(query_mD, dim=1)) for query_mD in x_BD.split(step)], dim=1)

    def state(self) -> dict[str, Tensor]:
        return {"rows": self.train.x_ND, "labels": self.train.labels_N}

    def _votes_of(self, query_mD: Tensor) -> Tensor:
        cosine_mk, neighbour_mk = self._nearest(query_mD)
        label_mk = self.train.labels_N.to(query_mD.device)[neighbour_mk]
        votes = [_vote(cosine_mk[:, :k], label_mk[:, :k], t, self.num_classes) for k, t in self.grid]
        return torch.stack(votes)

    def _nearest(self, query_mD: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines, falling, and places of as many training images as the largest k asks for."""
        size = max(1, self.block_elements // len(query_mD) - self._most)
        cosine_mk = query_mD.new_empty(len(query_mD), 0)
        place_mk = torch.empty(len(query_mD), 0, dtype=torch.int64, device=query_mD.device)
        for part, x_nD in self.train.blocks(query_mD.device, rows=size):
            block_mn = query_mD @ F.normalize(x_nD, dim=1).T
            places_mn = torch.arange(part.start, part.stop, device=query_mD.device).expand_as(block_mn)
            both = torch.cat([cosine_mk, block_mn], dim=1)
            cosine_mk, kept = both.topk(min(self._most, both.shape[1]), dim=1)
            place_mk = torch.cat([place_mk, places_mn], dim=1).gather(1, kept)
        return cosine_mk, place_mk


def _vote(cosine_mk: Tensor, label_mk: Tensor, temperature: float, num_classes: int) -> Tensor:
    # Relative to the nearest neighbour: the vote is the same, and no temperature lets all weights underflow.
    weights_mk = ((cosine_mk - cosine_mk[:, :1]) / temperature).exp()
    return weights_mk.new_zeros(len(label_mk), num_classes).scatter_add_(1, label_mk, weights_mk)
