"""Weighted k-nearest neighbours in cosine similarity, in blocks of queries.

Letters: N training images, M queries, C classes, m queries of a block, k neighbours.
"""

import itertools
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from issl_engine.probing.base import Features, ProbeConfig, ProbeResult

BLOCK_ELEMENTS = 2**24
"""Largest block of similarities (64 MiB)."""


class KNNProbeConfig(ProbeConfig):
    """Votes of the k nearest training images, weighted by exp(cosine / temperature) (Wu et al. 2018)."""

    name: Literal["knn"] = "knn"
    ks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (5, 20, 100)
    """Numbers of neighbours of the grid."""
    temperatures: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.07,)
    """Temperatures of the grid."""

    def evaluate(
        self, *, train: Features, held_out: Features, test: Features, num_classes: int, seed: int
    ) -> ProbeResult:
        grid = list(itertools.product(self.ks, self.temperatures))
        scores = dict(zip(grid, knn_top1(train, held_out, grid, num_classes), strict=True))
        chosen = max(grid, key=lambda point: scores[point])
        whole = train.joined(held_out)
        (value,) = knn_top1(whole, test, [chosen], num_classes)
        return ProbeResult(
            probe=self.name,
            metric="top1",
            value=value,
            split="test",
            num_train_images=len(whole),
            num_split_images=len(test),
            held_out_value=scores[chosen],
            chosen={"k": chosen[0], "temperature": chosen[1]},
            grid=(f"k {list(self.ks)} x temperature {list(self.temperatures)}, chosen on held-out training images"),
            seed=seed,
        )


def knn_top1(
    train: Features, queries: Features, grid: list[tuple[int, float]], num_classes: int, *,
    block_elements: int = BLOCK_ELEMENTS,
) -> list[float]:  # fmt: skip
    """Top-1 in percent for each (k, temperature); k above the number of training images means all of them.

    At most ``block_elements`` similarities (one query's N at the least) are in memory at a time.
    """
    rows_ND = F.normalize(train.x_ND, dim=1)
    most = min(max(k for k, _ in grid), len(train))
    correct = torch.zeros(len(grid))
    step = max(1, block_elements // len(train))
    for start in range(0, len(queries), step):
        query_mD = F.normalize(queries.x_ND[start : start + step], dim=1)
        cosine_mk, neighbour_mk = (query_mD @ rows_ND.T).topk(most, dim=1)
        label_mk = train.labels_N[neighbour_mk]
        expected_m = queries.labels_N[start : start + step]
        for index, (k, temperature) in enumerate(grid):
            predicted_m = _vote(cosine_mk[:, :k], label_mk[:, :k], temperature, num_classes)
            correct[index] += (predicted_m == expected_m).sum()
    return (100 * correct.double() / len(queries)).tolist()


def _vote(cosine_mk: Tensor, label_mk: Tensor, temperature: float, num_classes: int) -> Tensor:
    # Relative to the nearest neighbour: the vote is the same, and no temperature lets all weights underflow.
    weights_mk = ((cosine_mk - cosine_mk[:, :1]) / temperature).exp()
    votes_mC = torch.zeros(len(label_mk), num_classes).scatter_add_(1, label_mk, weights_mk)
    return votes_mC.argmax(1)
