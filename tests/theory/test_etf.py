"""The simplex ETF, and how far a representation is from it."""

import pytest
import torch

from issl_engine.theory.etf import geometry, simplex_etf


@pytest.mark.parametrize("num_classes", [2, 3, 8, 40])
def test_any_two_vectors_have_the_cosine_of_the_theory(num_classes: int) -> None:
    vectors = simplex_etf(num_classes)
    assert vectors.shape == (num_classes, num_classes - 1)
    assert vectors.dtype == torch.float64
    expected = torch.full((num_classes, num_classes), -1 / (num_classes - 1), dtype=torch.float64)
    expected.fill_diagonal_(1.0)
    torch.testing.assert_close(vectors @ vectors.T, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(vectors.sum(0), torch.zeros(num_classes - 1, dtype=torch.float64), rtol=0, atol=1e-12)


def test_one_class_is_no_frame() -> None:
    with pytest.raises(ValueError, match="at least 2 classes, not 1; give more classes"):
        simplex_etf(1)


def test_the_geometry_of_an_etf_is_the_theorys_wherever_it_lies() -> None:
    classes = torch.arange(5).repeat_interleave(3)
    found = geometry(7 * simplex_etf(5)[classes] + 100, classes)
    assert found.within == pytest.approx(1, abs=1e-9)
    assert found.between_mean == pytest.approx(-1 / 4, abs=1e-9)
    assert found.between_max == pytest.approx(-1 / 4, abs=1e-9)


def test_the_geometry_is_that_of_loops_over_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    classes = torch.arange(3).repeat_interleave(4)
    centre = torch.stack([x[classes == c].mean(0) for c in range(3)]).mean(0)

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.dot(a, b) / a.norm() / b.norm())

    of_class = []
    for c in range(3):
        rows = x[classes == c] - centre
        of_class.append([cosine(rows[i], rows[j]) for i in range(4) for j in range(4) if i != j])
    means = [x[classes == c].mean(0) - centre for c in range(3)]
    between = [cosine(means[i], means[j]) for i in range(3) for j in range(i)]
    found = geometry(x, classes)
    assert found.within == pytest.approx(sum(map(sum, of_class)) / 36, abs=1e-12)
    assert found.between_mean == pytest.approx(sum(between) / 3, abs=1e-12)
    assert found.between_max == pytest.approx(max(between), abs=1e-12)
