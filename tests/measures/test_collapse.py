"""Collapse measures on features whose values are known in closed form, and against a naive loop."""

import math

import pytest
import torch

from issl_engine.measures import collapse
from issl_engine.measures.collapse import alignment, feature_std, rank_me, uniformity


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_rank_me_is_d_for_identity_covariance_and_1_for_rank_one() -> None:
    orthonormal_ND = torch.linalg.qr(normal(200, 16).double()).Q
    assert rank_me(orthonormal_ND) == pytest.approx(16, abs=1e-9)
    assert rank_me(normal(4000, 16)) == pytest.approx(16, abs=0.1)
    assert rank_me(normal(50, 1) @ normal(1, 16, seed=1)) == pytest.approx(1, abs=1e-4)


def test_rank_me_is_the_exponential_of_the_entropy_of_the_singular_values() -> None:
    p = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    x_ND = torch.linalg.qr(normal(20, 3).double()).Q * (7 * p)
    assert rank_me(x_ND) == pytest.approx(2**1.5)


def test_feature_std_is_1_on_the_whole_sphere_and_0_at_a_point() -> None:
    assert feature_std(normal(4000, 32) * 9) == pytest.approx(1, abs=0.02)
    assert feature_std(torch.tensor([[3.0, 4.0]]).repeat(10, 1)) == pytest.approx(0, abs=1e-12)


def test_alignment_is_the_mean_squared_distance_of_the_directions() -> None:
    x_ND = normal(50, 8)
    assert alignment(x_ND, 5 * x_ND) == pytest.approx(0, abs=1e-12)
    assert alignment(x_ND, -x_ND) == pytest.approx(4)
    right_angles = torch.tensor([[1.0, 0], [0, 2]]), torch.tensor([[0, 3.0], [1, 0]])
    assert alignment(*right_angles) == pytest.approx(2)


def test_uniformity_equals_a_loop_over_pairs_for_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x_ND = normal(23, 5).double()
    unit = [row / row.norm() for row in x_ND]
    terms = [math.exp(-2 * float((unit[i] - unit[j]).square().sum())) for i in range(23) for j in range(23) if i != j]
    expected = math.log(sum(terms) / len(terms))
    assert uniformity(x_ND) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(collapse, "PAIR_BLOCK", 60)
    assert uniformity(x_ND) == pytest.approx(expected, rel=1e-9)


def test_uniformity_is_0_at_a_point_and_near_minus_4_when_spread() -> None:
    assert uniformity(torch.ones(10, 4)) == pytest.approx(0, abs=1e-9)
    assert -4 < uniformity(normal(500, 256)) < -3.9


@pytest.mark.parametrize("measure", [rank_me, feature_std, uniformity])
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(4), "shape"),
        (torch.zeros(0, 4), "shape"),
        (torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), "NaN"),
    ],
)
def test_bad_features_are_named(measure, features: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(features)


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="all zero"):
        rank_me(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="only one"):
        uniformity(torch.ones(1, 2))
    with pytest.raises(ValueError, match="one shape"):
        alignment(torch.ones(3, 2), torch.ones(4, 2))
