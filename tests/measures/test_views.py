"""Measures of several views per image: LiDAR and invariance, against loops over pairs and explicit matrices."""

import numpy as np
import pytest
import torch
from torch import Tensor

from issl_engine.measures.invariance import invariance
from issl_engine.measures.lidar import lidar

from .conftest import normal, orthonormal


def views_around(centres_ND: Tensor, views: int, noise: float, seed: int = 3) -> Tensor:
    return centres_ND[:, None] + noise * normal(len(centres_ND), views, centres_ND.shape[1], seed=seed)


def explicit_lidar(z: np.ndarray, floor: float) -> float:
    N, V, D = z.shape
    means = z.mean(1)
    between = np.cov(means.T, bias=True)
    within = sum(np.outer(z[i, v] - means[i], z[i, v] - means[i]) for i in range(N) for v in range(V)) / (N * V)
    values, vectors = np.linalg.eigh(within + floor * np.eye(D))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ between @ root).clip(0)
    p = eigenvalues / eigenvalues.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


@pytest.mark.parametrize(("images", "views", "dim"), [(12, 3, 7), (6, 4, 40), (9, 2, 17)])
def test_lidar_equals_its_definition_with_explicit_matrices(images: int, views: int, dim: int) -> None:
    z_NVD = views_around(normal(images, dim) * torch.linspace(0.2, 3, dim), views, 0.3) + 5
    assert lidar(z_NVD, within_floor=1e-3) == pytest.approx(explicit_lidar(z_NVD.numpy(), 1e-3), rel=1e-8)


def test_lidar_counts_directions_that_distinguish_images() -> None:
    flat_ND = orthonormal(200, 10) * 200**0.5
    assert lidar(views_around(flat_ND, 50, 0.1)) == pytest.approx(10, abs=0.1)
    one_direction_ND = normal(200, 1) @ normal(1, 10, seed=2)
    assert lidar(views_around(one_direction_ND, 50, 0.01)) == pytest.approx(1, abs=0.02)


def test_lidar_discounts_directions_in_which_views_differ() -> None:
    """What RankMe cannot see: five of ten equally wide directions are those of the augmentations."""
    centres_ND = orthonormal(200, 10) * 200**0.5 * torch.tensor([1.0] * 5 + [0.0] * 5)
    z_NVD = centres_ND[:, None] + normal(200, 50, 10, seed=3) * torch.tensor([0.05] * 5 + [1.0] * 5)
    assert lidar(z_NVD) == pytest.approx(5, abs=0.05)


def test_invariance_equals_a_loop_over_pairs_of_views() -> None:
    z_NVD = views_around(normal(6, 4), 3, 0.7)
    same, different = [], []
    flat = [(i, z_NVD[i, v]) for i in range(6) for v in range(3)]
    for a, (i, x) in enumerate(flat):
        for j, y in flat[a + 1 :]:
            (same if i == j else different).append((x - y).square().sum().item())
    assert invariance(z_NVD) == pytest.approx(np.mean(same) / np.mean(different), rel=1e-12)


def test_invariance_is_0_where_views_agree_and_1_where_they_do_not_belong_together() -> None:
    assert invariance(normal(20, 5)[:, None].expand(20, 4, 5)) == pytest.approx(0, abs=1e-12)
    assert invariance(normal(300, 4, 20)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("measure", [lidar, invariance])
def test_what_has_no_value_is_refused(measure) -> None:
    with pytest.raises(ValueError, match="collapsed to a point"):
        measure(torch.full((5, 2, 3), 0.1))
    with pytest.raises(ValueError, match="5 images with 1 views"):
        measure(torch.ones(5, 1, 3))
    with pytest.raises(ValueError, match="shape"):
        measure(torch.ones(5, 3))
