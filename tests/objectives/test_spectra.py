"""Spectral functions: values, and gradients that are finite where singular values or eigenvalues coincide or vanish."""

import math

import pytest
import torch

from issl_engine.objectives.spectra import LOG_EPSILON, nuclear_norm, symmetric_log, trace_log


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 5, 3)])
def test_the_smoothed_nuclear_norm_is_close_to_the_nuclear_norm(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.matrix_norm(x, "nuc")
    assert (nuclear_norm(x) <= exact).all()
    assert (nuclear_norm(x) >= exact - 1e-4 * min(shape[-2:])).all()


@pytest.mark.parametrize(
    "matrix",
    [torch.zeros(4, 3), torch.eye(4, 3), torch.ones(4, 3), torch.eye(3, 3)],
    ids=["zero", "equal singular values", "rank one", "identity"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_nuclear_norms_gradient_is_bounded_for_degenerate_spectra(matrix: torch.Tensor, dtype: torch.dtype) -> None:
    x = matrix.to(dtype, copy=True).requires_grad_()
    nuclear_norm(x).backward()
    assert x.grad is not None
    assert torch.linalg.matrix_norm(x.grad, 2) <= 1 + 1e-5
    if not matrix.any():
        assert not x.grad.any()


def test_the_nuclear_norm_passes_gradcheck() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(nuclear_norm, (x,))


def symmetric(*eigenvalues: float, seed: int = 2) -> torch.Tensor:
    """fp64, with these eigenvalues and random eigenvectors."""
    size = len(eigenvalues)
    random = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    vectors = torch.linalg.qr(random).Q
    return vectors @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ vectors.T


def test_the_logarithm_is_the_inverse_of_the_exponential() -> None:
    a = symmetric(-1.5, 0.3, 0.3, 2.0)
    torch.testing.assert_close(symmetric_log(torch.matrix_exp(a)), a)
    torch.testing.assert_close(trace_log(torch.matrix_exp(a)), a.trace())


def test_only_the_symmetric_part_counts() -> None:
    a, skew = symmetric(0.5, 1.0, 2.0), torch.randn(3, 3, dtype=torch.float64)
    skewed = a + skew - skew.T
    torch.testing.assert_close(symmetric_log(skewed), symmetric_log(a))
    torch.testing.assert_close(trace_log(skewed), trace_log(a))


@pytest.mark.parametrize(
    "eigenvalues",
    [
        (0.5, 0.7, 1.9),
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 2.0),
        (0.5, 0.5 + 1e-9, 0.508),
        (-0.3, -0.3, 1.0),
        (-0.2, 0.0, 1.0),
        (0.5 * LOG_EPSILON, 2 * LOG_EPSILON, 1e3),
    ],
)
def test_the_logarithms_pass_gradcheck_where_eigenvalues_meet_or_are_negative(eigenvalues: tuple[float, ...]) -> None:
    a = symmetric(*eigenvalues).requires_grad_()
    weights = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    step = 1e-7 if min(map(abs, eigenvalues)) < LOG_EPSILON else 1e-6
    assert torch.autograd.gradcheck(lambda m: (weights * symmetric_log(m)).sum(), (a,), eps=step, atol=1e-4, rtol=1e-4)
    assert torch.autograd.gradcheck(trace_log, (a,), eps=step, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("matrix", [torch.zeros(4, 4), torch.eye(4), -torch.eye(4), torch.ones(4, 4)])
def test_the_logarithms_gradient_is_finite_for_degenerate_spectra(matrix: torch.Tensor, dtype: torch.dtype) -> None:
    for function in (symmetric_log, trace_log):
        a = matrix.to(dtype, copy=True).requires_grad_()
        function(a).sum().backward()
        assert a.grad is not None
        assert a.grad.isfinite().all()
        assert a.grad.abs().max() <= 4.01 / LOG_EPSILON


@pytest.mark.parametrize("ratio", [1 + 1e-12, 1.001, 1.015, 1.025, 1.5, 1e3])
def test_the_logarithms_divided_difference_is_exact_on_both_sides_of_its_series(ratio: float) -> None:
    """Of two eigenvalues b and b·ratio: log1p(ratio − 1) / (b·ratio − b) is what an off-diagonal entry is scaled by."""
    a = torch.diag(torch.tensor([0.5 * ratio, 0.5], dtype=torch.float64)).requires_grad_()
    symmetric_log(a)[0, 1].backward()
    assert a.grad is not None
    gap = (a[0, 0] - a[1, 1]).item()
    assert 2 * a.grad[0, 1].item() == pytest.approx(math.log1p(gap / 0.5) / gap, rel=1e-12)
