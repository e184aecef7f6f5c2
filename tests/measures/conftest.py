"""Features whose measures are known: normal ones, simplex ETFs, power-law spectra."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These matrices are so small that torch's threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(rows: int, columns: int, seed: int = 0) -> Tensor:
    """Columns of length 1 at right angles, each of mean zero."""
    draws = normal(rows, columns, seed=seed)
    return torch.linalg.qr(draws - draws.mean(0)).Q


def simplex_etf(num_classes: int, dim: int) -> Tensor:
    """C vectors with equal lengths and cosines -1/(C - 1), turned into ``dim`` dimensions, off centre."""
    corners = torch.eye(num_classes, dtype=torch.float64) - 1 / num_classes
    return 3 * corners @ torch.linalg.qr(normal(dim, num_classes, seed=5)).Q.T + 2


def of_spectrum(eigenvalues: Tensor, num_images: int) -> Tensor:
    """Centred features whose covariance has these eigenvalues exactly."""
    K = len(eigenvalues)
    turned = torch.linalg.qr(normal(K, K, seed=7)).Q
    return orthonormal(num_images, K) * (num_images * eigenvalues).sqrt() @ turned
