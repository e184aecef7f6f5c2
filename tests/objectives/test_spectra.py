"""Spectral functions: values, and gradients that are finite where singular values or eigenvalues coincide or vanish."""

import pytest
import torch

from issl_engine.objectives.spectra import nuclear_norm


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
