"""Effective rank and power laws of spectra that are known, and against eigenvalues of the covariance itself."""

import numpy as np
import pytest
import torch

from issl_engine.measures.alpha_req import alpha_req, power_law_exponent
from issl_engine.measures.collapse import rank_me
from issl_engine.measures.effective_rank import effective_rank, largest_effective_rank
from issl_engine.measures.spectrum import singular_spectrum, squared_singular_values

from .conftest import normal, of_spectrum


def test_effective_rank_counts_equal_directions_and_ignores_an_offset() -> None:
    x_ND = of_spectrum(torch.full((12,), 0.3, dtype=torch.float64), 40)
    assert effective_rank(x_ND) == pytest.approx(12)
    assert effective_rank(x_ND + 100) == pytest.approx(12, abs=1e-6)
    assert rank_me(x_ND + 100) < 3, "RankMe sees the offset: the two must not be mixed up"


def test_effective_rank_is_the_entropy_of_the_covariances_eigenvalues() -> None:
    x = normal(30, 9).numpy() @ np.diag(np.arange(1, 10)) + 4
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    p = eigenvalues / eigenvalues.sum()
    assert effective_rank(torch.from_numpy(x)) == pytest.approx(np.exp(-(p * np.log(p)).sum()))


def test_effective_rank_is_1_for_rank_one_and_bounded_by_images_and_dimensions() -> None:
    assert effective_rank(normal(50, 1) @ normal(1, 16, seed=1)) == pytest.approx(1, abs=1e-6)
    for shape in ((20, 64), (64, 20)):
        assert effective_rank(normal(*shape)) <= largest_effective_rank(*shape)
    few = normal(8, 1000)
    assert effective_rank(few) == pytest.approx(7, abs=0.1)
    assert largest_effective_rank(8, 1000) == 7


@pytest.mark.parametrize("shape", [(40, 13), (13, 40)])
def test_singular_values_equal_an_svd_on_either_side(shape: tuple[int, int]) -> None:
    x = normal(*shape)
    expected = torch.linalg.svdvals(x)
    torch.testing.assert_close(squared_singular_values(x).sqrt(), expected)
    torch.testing.assert_close(singular_spectrum(x), expected / expected.sum())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.3])
def test_a_power_law_gives_its_exponent(alpha: float) -> None:
    eigenvalues = 7 * torch.arange(1, 41, dtype=torch.float64) ** -alpha
    assert power_law_exponent(eigenvalues) == pytest.approx(alpha, abs=1e-12)
    assert alpha_req(of_spectrum(eigenvalues, 90)) == pytest.approx(alpha, abs=1e-9)


def test_the_fit_is_weighted_by_one_over_the_rank() -> None:
    eigenvalues = normal(30).abs().sort(descending=True).values + 1e-3
    ranks = np.arange(1, 31)
    # np.polyfit's weights multiply the residuals, not their squares.
    slope, _ = np.polyfit(np.log(ranks), np.log(eigenvalues.numpy()), 1, w=ranks**-0.5)
    assert power_law_exponent(eigenvalues) == pytest.approx(-slope)


def test_rounding_and_the_samples_tail_do_not_count() -> None:
    eigenvalues = torch.arange(1, 41, dtype=torch.float64) ** -1.0
    assert power_law_exponent(torch.cat([eigenvalues, torch.full((20,), 1e-14)])) == pytest.approx(1)
    broken_at_20 = torch.cat([eigenvalues[:20], 1e-6 * eigenvalues[20:]])
    assert alpha_req(of_spectrum(broken_at_20, 90), last_rank=20) == pytest.approx(1)


def test_what_has_no_value_is_refused() -> None:
    for measure in (effective_rank, alpha_req):
        with pytest.raises(ValueError, match="collapsed to a point"):
            measure(torch.full((5, 3), 0.1))
    with pytest.raises(ValueError, match="one direction only"):
        alpha_req(normal(50, 1) @ normal(1, 16))
    with pytest.raises(ValueError, match="all zero"):
        singular_spectrum(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="NaN"):
        effective_rank(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
