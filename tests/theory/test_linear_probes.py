"""Linear probes: at their optimum, with a bound that says so, and blind to the axes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.theory import linear_probes as probes
from issl_engine.theory.etf import rotated, simplex_etf
from issl_engine.theory.experiments.base import by_hand
from issl_engine.theory.labelings import binary_labelings, labels_of_images
from issl_engine.theory.linear_probes import linear_probes
from issl_engine.theory.world import WorldConfig, draw_world


def noisy(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features [200, 4] and three labelings that are not quite linear."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, 4, generator=generator)
    labels = x @ torch.randn(4, 3, generator=generator) + torch.randn(200, 3, generator=generator) > 0.3
    return x, labels.T


def test_it_is_the_minimum_that_sklearn_finds() -> None:
    from sklearn.linear_model import LogisticRegression

    x, labels = noisy()
    x = x.double()
    queries = torch.randn(500, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scale = float(x.var(0, correction=0).mean().sqrt())
    found = linear_probes(x, labels, queries)
    for row in range(3):
        oracle = LogisticRegression(C=1 / (200 * 1e-5), tol=1e-10, max_iter=1000)
        oracle.fit(((x - x.mean(0)) / scale).numpy(), labels[row].numpy())
        expected = oracle.decision_function(((queries - x.mean(0)) / scale).numpy())
        np.testing.assert_allclose(found.logits_LM[row].numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_the_gap_bounds_what_is_missing_to_the_optimum(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = noisy()
    x_ND = torch.cat([x.double(), torch.ones(200, 1, dtype=torch.float64)], dim=1)
    sign_LN, penalty_D = labels.double() * 2 - 1, torch.tensor([1e-2] * 4 + [probes.BIAS_DECAY], dtype=torch.float64)

    def loss(weights_LD: Tensor) -> Tensor:
        margins = sign_LN * (weights_LD @ x_ND.T)
        return torch.log1p(torch.exp(-margins)).mean(1) + (penalty_D * weights_LD.square()).sum(1) / 2

    best, reached = probes._newton(x_ND, labels, 1e-2)
    assert reached.max() <= probes.WANTED_GAP
    monkeypatch.setattr(probes, "ITERATIONS", iterations)
    stopped, gap = probes._newton(x_ND, labels, 1e-2)
    missing = loss(stopped) - loss(best)
    assert (missing <= gap + 1e-12).all()


def test_where_the_penalty_is_all_the_gap_is_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under so heavy a penalty the loss is its quadratic, of which the bound is exact; labels are balanced, so that the
    bias has no gradient."""
    x, _ = noisy()
    x_ND = torch.cat([x.double(), torch.ones(200, 1, dtype=torch.float64)], dim=1)
    labels = (torch.arange(200) % 2 == 0)[None]
    (best,), _ = probes._newton(x_ND, labels, 1e3)
    monkeypatch.setattr(probes, "ITERATIONS", 1)
    monkeypatch.setattr(probes, "WANTED_GAP", 1.0)  # so that it stops at once, at zero
    (start,), (gap,) = probes._newton(x_ND, labels, 1e3)
    assert not start.any()
    sign_N = labels[0].double() * 2 - 1
    reached = torch.log1p(torch.exp(-sign_N * (x_ND @ best))).mean() + 1e3 * best[:-1].square().sum() / 2
    assert float(gap) == pytest.approx(math.log(2) - float(reached), rel=1e-2)


def test_a_probe_that_has_not_converged_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ITERATIONS", 2)
    x, labels = noisy()
    with pytest.raises(Mistake, match=r"a linear probe stopped .* nats above its optimum"):
        linear_probes(x, labels, x)


def test_a_rotation_of_the_representation_changes_nothing() -> None:
    x, labels = noisy()
    x = x * torch.tensor([1.0, 5.0, 0.2, 1.0])
    turned = rotated(x, seed=3)
    assert not torch.allclose(turned.float(), x, atol=0.1)
    first, second = linear_probes(x, labels, x), linear_probes(turned, labels, turned)
    torch.testing.assert_close(first.logits_LM, second.logits_LM, rtol=1e-5, atol=1e-5)


def test_no_representation_by_hand_lies_along_the_axes() -> None:
    """simplex_etf itself does: its third axis is zero for the first two classes, and so on."""
    assert (simplex_etf(8).abs() < 1e-9).sum() > 10
    world = draw_world(WorldConfig(kinds=2, sizes=1, hues=4, train_images=4, test_images=4), 0)
    first, second = (by_hand(world, simplex_etf(8), seed=seed) for seed in (0, 1))
    for measured in (first, second):
        vectors = measured.test_Md[::4]
        assert vectors.abs().min() > 1e-4
        torch.testing.assert_close(vectors @ vectors.T, (simplex_etf(8) @ simplex_etf(8).T).float(), rtol=0, atol=1e-5)
        assert torch.equal(measured.train_Nd[::4], vectors)
    assert not torch.allclose(first.test_Md, second.test_Md, atol=0.1)


def test_all_tasks_of_a_rotated_etf_are_linear() -> None:
    labelings = binary_labelings(6, 127, 0)
    x = rotated(simplex_etf(6), 0)
    assert linear_probes(x, labels_of_images(labelings, torch.arange(6)), x).errors(labelings).max() == 0
