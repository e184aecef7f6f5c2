"""The solver of penalised likelihoods: against scikit-learn in fp64, and its bound against the true distance."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from issl_engine.probing.features.features import CPU, Features
from issl_engine.probing.probes.fitting import normalised_blocks, penalty_path
from issl_engine.probing.probes.fitting.likelihoods import Bernoulli, Likelihood, Softmax
from issl_engine.probing.probes.fitting.penalised_loss import Evaluated, PenalisedLoss
from issl_engine.probing.probes.fitting.penalty_path import Path, on_the_way, solve_path
from issl_engine.probing.probes.fitting.standardise import moments

from ...conftest import NUM_CLASSES, blobs


def ill_conditioned(count: int, *, dim: int = 40) -> Features:
    """Correlated features whose variances span ten powers of ten, off centre."""
    features = blobs(count, seed=3, dim=dim, noise=2)
    generator = torch.Generator().manual_seed(7)
    turned_DD = torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0]
    return Features(x_ND=features.x_ND @ (turned_DD * torch.logspace(0, -5, dim)) + 3, labels_N=features.labels_N)


def separable(count: int) -> Features:
    return blobs(count, seed=5, dim=12, spread=20)


def solved(
    features: Features, *decays: float, tolerance: float = 1e-7, standardise: bool = True, max_iterations: int = 3000
) -> Path:
    return solve_path(
        features, moments(features, CPU), Softmax(features.labels_N), decays, standardise=standardise,
        tolerance=tolerance, max_iterations=max_iterations,
    )  # fmt: skip


def rows(features: Features, path: Path) -> Tensor:
    return features.x_ND.double() * path.scale_D.double() + path.offset_D.double()


def loss64(x_ND: Tensor, labels_N: Tensor, weight_CD: Tensor, bias_C: Tensor, decay: float) -> float:
    """P in fp64, written apart from the code."""
    logits_NC = x_ND @ weight_CD.double().T + bias_C.double()
    correct_N = logits_NC[torch.arange(len(labels_N)), labels_N]
    return float((logits_NC.logsumexp(1) - correct_N).mean() + decay / 2 * weight_CD.double().square().sum())


def oracle(x_ND: Tensor, labels_N: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """The optimum by scikit-learn's Newton's method, in fp64."""
    found = LogisticRegression(C=1 / (decay * len(x_ND)), tol=1e-12, max_iter=500, solver="newton-cholesky")
    found.fit(x_ND.numpy(), labels_N.numpy())
    return torch.from_numpy(found.coef_), torch.from_numpy(found.intercept_)


CASES = {
    "blobs": (blobs(400, seed=0, noise=2), 1e-2),
    "ill-conditioned": (ill_conditioned(400), 1e-3),
    "ill-conditioned, weak": (ill_conditioned(400), 1e-5),
    "separable": (separable(200), 1e-5),
    "fewer images than features": (blobs(30, seed=1, dim=40, noise=3), 1e-2),
}


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("case", sorted(CASES))
def test_the_optimum_is_scikit_learns(case: str, standardise: bool) -> None:
    features, decay = CASES[case]
    path = solved(features, decay, standardise=standardise)
    assert path.gaps_S[0] <= 1e-7
    x_ND = rows(features, path)
    weight_CD, bias_C = oracle(x_ND, features.labels_N, decay)
    best = loss64(x_ND, features.labels_N, weight_CD, bias_C, decay)
    found = loss64(x_ND, features.labels_N, path.weights_SKD[0], path.bias_SK[0], decay)
    assert found == pytest.approx(best, rel=1e-5, abs=2e-7)
    # By strong convexity |W - W*|² <= 2 gap / λ.
    assert float((path.weights_SKD[0].double() - weight_CD).norm()) <= math.sqrt(2 * 1e-7 / decay) + 1e-4
    centred = path.bias_SK[0] - path.bias_SK[0].mean()
    torch.testing.assert_close(centred.double(), bias_C - bias_C.mean(), rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("tolerance", [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
def test_the_gap_is_never_below_the_true_distance(case: str, tolerance: float) -> None:
    features, decay = CASES[case]
    path = solved(features, decay, tolerance=tolerance)
    x_ND = rows(features, path)
    best = loss64(x_ND, features.labels_N, *oracle(x_ND, features.labels_N, decay), decay)
    found = loss64(x_ND, features.labels_N, path.weights_SKD[0], path.bias_SK[0], decay)
    assert -1e-6 <= found - best <= path.gaps_S[0] + 1e-6
    assert path.gaps_S[0] <= tolerance


def test_the_gap_is_the_duality_gap() -> None:
    """P - D, with the dual computed by its own formula."""
    features, decay = CASES["blobs"]
    path = solved(features, decay, tolerance=1e-2)
    x_ND, N = rows(features, path), len(features)
    weight_CD, bias_C = path.weights_SKD[0].double(), path.bias_SK[0].double()
    probability_NC = (x_ND @ weight_CD.T + bias_C).softmax(1)
    entropy = -(probability_NC * probability_NC.log()).sum(1).mean()
    residual_NC = probability_NC - torch.nn.functional.one_hot(features.labels_N, NUM_CLASSES)
    assert float(residual_NC.sum(0).abs().max()) / N < 1e-4
    dual_CD = -(residual_NC.T @ x_ND) / (decay * N)
    gap = loss64(x_ND, features.labels_N, weight_CD, bias_C, decay) - float(
        entropy - decay / 2 * dual_CD.square().sum()
    )
    assert gap > 1e-4
    assert path.gaps_S[0] == pytest.approx(gap, rel=5e-2)


@pytest.mark.parametrize("kind", ["softmax", "bernoulli"])
def test_the_gradient_and_the_curvature_are_autograds(kind: str) -> None:
    random = torch.Generator().manual_seed(0)
    outputs_bC = 5 * torch.randn(7, 3, generator=random)
    has_bC, known_bC = (torch.rand(2, 7, 3, generator=random) > 0.4).float()
    likelihood: Likelihood = (
        Softmax(torch.arange(7) % 3) if kind == "softmax" else Bernoulli(has_bC, known_bC)
    )  # fmt: skip

    def loss(z_bC: Tensor) -> Tensor:
        if kind == "softmax":
            return -z_bC.log_softmax(1)[torch.arange(7), torch.arange(7) % 3].sum()
        return -(known_bC * (has_bC * z_bC.sigmoid().log() + (1 - has_bC) * (1 - z_bC.sigmoid()).log())).sum()

    wide_bC = outputs_bC.double().requires_grad_()
    value, residual_bC, expected_bC = likelihood.terms(outputs_bC, slice(0, 7))
    torch.testing.assert_close(value, loss(wide_bC), rtol=1e-6, atol=1e-6)
    (gradient_bC,) = torch.autograd.grad(loss(wide_bC), wide_bC)
    torch.testing.assert_close(residual_bC.double(), gradient_bC, rtol=1e-5, atol=1e-6)
    bias_C = torch.zeros(3, dtype=torch.float64)
    hessian_CC = torch.autograd.functional.hessian(lambda b: loss(outputs_bC.double() + b), bias_C)
    torch.testing.assert_close(likelihood.curvature(expected_bC, slice(0, 7)), hessian_CC, rtol=1e-4, atol=1e-6)


def test_features_of_half_precision_are_solved_as_they_are_stored() -> None:
    features = blobs(300, seed=0, noise=2)
    half = Features(x_ND=features.x_ND.half(), labels_N=features.labels_N)
    wide = Features(x_ND=features.x_ND.half().float(), labels_N=features.labels_N)
    assert torch.equal(solved(half, 1e-3).weights_SKD, solved(wide, 1e-3).weights_SKD)


def test_neither_streaming_nor_the_size_of_blocks_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    features, decay = CASES["ill-conditioned"]
    whole = solved(features, decay)
    monkeypatch.setattr("issl_engine.probing.features.features.BLOCK_ROWS", 37)
    in_blocks = solved(features, decay)
    monkeypatch.setattr(normalised_blocks, "RESIDENT_BYTES", 0)
    streamed = solved(features, decay)
    assert torch.equal(in_blocks.weights_SKD, streamed.weights_SKD)
    torch.testing.assert_close(streamed.weights_SKD, whole.weights_SKD, rtol=1e-2, atol=1e-2)
    assert max(streamed.gaps_S + whole.gaps_S) <= 1e-7


def test_streaming_takes_block_after_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issl_engine.probing.features.features.BLOCK_ROWS", 30)
    fit = blobs(100, seed=0)
    scale_D, offset_D = torch.full((fit.width,), 2.0), torch.ones(fit.width)
    blocks = normalised_blocks.normalised_blocks(fit, scale_D, offset_D, resident_bytes=0)
    for _ in range(2):
        assert [len(part) for _, part in blocks()] == [30, 30, 30, 10]
        torch.testing.assert_close(torch.cat([part for _, part in blocks()]), fit.x_ND * 2 + 1)


def test_the_sum_over_many_blocks_is_as_exact_as_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums in float32 over all images would be off by far more."""
    monkeypatch.setattr("issl_engine.probing.features.features.BLOCK_ROWS", 256)
    features = Features(
        x_ND=blobs(20_000, seed=0).x_ND.repeat(5, 1) + 100, labels_N=blobs(20_000, seed=0).labels_N.repeat(5)
    )
    ones_D, zeros_D = torch.ones(features.width), torch.zeros(features.width)
    blocks = normalised_blocks.normalised_blocks(features, ones_D, zeros_D)
    loss = PenalisedLoss(blocks, Softmax(features.labels_N), decay=1e-6, num_images=len(features))
    weight_CD = torch.zeros(NUM_CLASSES, features.width, dtype=torch.float64)
    here = loss.at(weight_CD, torch.zeros(NUM_CLASSES, dtype=torch.float64))
    residual_NC = 1 / NUM_CLASSES - torch.nn.functional.one_hot(features.labels_N, NUM_CLASSES).double()
    expected_CD = residual_NC.T @ features.x_ND.double() / len(features)
    torch.testing.assert_close(here.weight_gradient_CD, expected_CD, rtol=0, atol=2e-6)


def test_a_path_steps_tenfold_at_the_most_and_ends_at_the_weakest() -> None:
    assert on_the_way([1e-4]) == pytest.approx([1e-1, 1e-2, 1e-3, 1e-4])
    assert on_the_way([1e-1, 1e-2]) == [1e-1, 1e-2]
    assert on_the_way([5.0, 1e-2]) == pytest.approx([5.0, 0.5, 0.05, 1e-2])
    assert on_the_way([3e-3]) == pytest.approx([1e-1, 1e-2, 3e-3])


def test_a_penalty_alone_is_solved_as_in_a_path() -> None:
    features, _ = CASES["blobs"]
    path, alone = solved(features, 1e-4, 1e-1, 1e-2), solved(features, 1e-2)
    torch.testing.assert_close(alone.weights_SKD[0], path.weights_SKD[2], rtol=1e-3, atol=5e-3)


def test_a_run_that_is_cut_short_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penalty_path, "ON_THE_WAY", 1e3)
    features, decay = CASES["ill-conditioned, weak"]
    path = solved(features, decay, max_iterations=5)
    assert path.gaps_S[0] > 1e-3
    x_ND = rows(features, path)
    best = loss64(x_ND, features.labels_N, *oracle(x_ND, features.labels_N, decay), decay)
    assert loss64(x_ND, features.labels_N, path.weights_SKD[0], path.bias_SK[0], decay) - best <= path.gaps_S[0]


def test_biases_that_are_not_settled_are_a_part_of_the_gap() -> None:
    zeros_CD, gradient_C = torch.zeros(3, 2, dtype=torch.float64), torch.tensor([0.3, 0.0, -0.3], dtype=torch.float64)
    here = Evaluated(
        weight_CD=zeros_CD, bias_C=torch.zeros(3, dtype=torch.float64), loss=1.0, weight_gradient_CD=zeros_CD,
        bias_gradient_C=gradient_C, decay=0.1, curvature_CC=None,
    )  # fmt: skip
    assert here.weight_gap == 0
    assert here.gap == pytest.approx(0.3 * np.sqrt(2))
