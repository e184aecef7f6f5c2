"""Weighted k-nearest neighbours against a plain fp64 loop, in blocks of any size."""

import math

import pytest
import torch
from pydantic import ValidationError

from issl_engine.probing.features.features import CPU, Features
from issl_engine.probing.judging.class_task import ClassTask
from issl_engine.probing.probes.knn import BLOCK_ELEMENTS, KNNProbeConfig, Neighbours

from ..conftest import NUM_CLASSES, blobs, evaluated, shuffled_labels

GRID = [(1, 0.07), (7, 0.07), (30, 0.07), (30, 1.0), (1000, 0.02)]


def knn_top1(
    train: Features, queries: Features, grid: list[tuple[int, float]], num_classes: int, *,
    block_elements: int = BLOCK_ELEMENTS,
) -> list[float]:  # fmt: skip
    neighbours = Neighbours(train, grid, num_classes, block_elements=block_elements)
    return ClassTask().scores(neighbours, queries, CPU)


def brute_force(train: Features, queries: Features, k: int, temperature: float) -> float:
    correct = 0
    rows = [row / row.norm() for row in train.x_ND.double()]
    for query, expected in zip(queries.x_ND.double(), queries.labels_N.tolist(), strict=True):
        cosines = [float(row @ query / query.norm()) for row in rows]
        nearest = sorted(range(len(rows)), key=lambda i: -cosines[i])[:k]
        votes = [0.0] * NUM_CLASSES
        for i in nearest:
            votes[int(train.labels_N[i])] += math.exp(cosines[i] / temperature)
        correct += votes.index(max(votes)) == expected
    return 100 * correct / len(queries)


def test_it_equals_a_plain_loop() -> None:
    train, queries = blobs(120, seed=0, noise=2), blobs(50, seed=1, noise=2)
    expected = [brute_force(train, queries, k, temperature) for k, temperature in GRID]
    assert knn_top1(train, queries, GRID, NUM_CLASSES) == pytest.approx(expected)
    assert len(set(expected)) > 2


@pytest.mark.parametrize("block_elements", [1, 500, 119 * 120])
def test_the_size_of_the_blocks_does_not_matter(block_elements: int) -> None:
    train, queries = blobs(120, seed=0, noise=2), blobs(50, seed=1, noise=2)
    whole = knn_top1(train, queries, GRID, NUM_CLASSES)
    assert knn_top1(train, queries, GRID, NUM_CLASSES, block_elements=block_elements) == whole


def test_blocks_bound_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    topk = torch.Tensor.topk

    def recording(self: torch.Tensor, *arguments, **options):
        nonlocal largest
        largest = max(largest, self.numel())
        return topk(self, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "topk", recording)
    knn_top1(blobs(120, seed=0), blobs(50, seed=1), [(7, 0.07), (30, 0.07)], NUM_CLASSES, block_elements=700)
    assert 600 < largest <= 700


def test_only_directions_matter_and_tiny_temperatures_mean_the_nearest() -> None:
    train, queries = blobs(120, seed=0, noise=2), blobs(50, seed=1, noise=2)
    longer = Features(x_ND=queries.x_ND * torch.linspace(0.1, 9, 50)[:, None], labels_N=queries.labels_N)
    assert knn_top1(train, longer, GRID, NUM_CLASSES) == knn_top1(train, queries, GRID, NUM_CLASSES)
    opposite = Features(x_ND=-queries.x_ND, labels_N=queries.labels_N)  # every cosine is far below 1
    nearest, cold = knn_top1(train, opposite, [(1, 0.07), (30, 1e-5)], NUM_CLASSES)
    assert cold == nearest


def test_the_choice_never_sees_the_test_split() -> None:
    train, held_out, test = (
        blobs(300, seed=0, noise=2),
        blobs(100, seed=1, noise=2),
        blobs(300, seed=2, noise=2),
    )
    probe = KNNProbeConfig(ks=(1, 10, 50), temperatures=(0.03, 0.3))
    honest, spoilt = (evaluated(probe, train, held_out, split) for split in (test, shuffled_labels(test)))
    assert honest.chosen == spoilt.chosen
    assert honest.held_out_value == spoilt.held_out_value
    assert honest.value > spoilt.value + 20
    point = (int(honest.chosen["k"]), float(honest.chosen["temperature"]))
    assert honest.held_out_value == max(
        knn_top1(train, held_out, [(k, t) for k in (1, 10, 50) for t in (0.03, 0.3)], NUM_CLASSES)
    )
    assert [honest.value] == knn_top1(train.joined(held_out), test, [point], NUM_CLASSES)


@pytest.mark.parametrize("bad", [{"ks": ()}, {"ks": (0,)}, {"temperatures": (0.0,)}, {"temperatures": ()}])
def test_impossible_grids_are_refused(bad: dict) -> None:
    with pytest.raises(ValidationError):
        KNNProbeConfig(**bad)
