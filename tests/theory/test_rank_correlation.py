"""Spearman's correlation and its jackknife."""

import pytest

from issl_engine.theory.rank_correlation import jackknife, spearman


def test_it_is_scipys_with_ties_too() -> None:
    from scipy.stats import spearmanr

    first, second = [1.0, 2.0, 2.0, 5.0, 0.5], [3.0, 1.0, 7.0, 7.0, 2.0]
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert spearman(first, [2 * value for value in first]) == pytest.approx(1)
    assert spearman(first, [-value for value in first]) == pytest.approx(-1)
    assert spearman(first, [4.0] * 5) == 0


def test_pseudo_values_of_a_perfect_order_are_one() -> None:
    assert jackknife([1, 2, 3, 4, 5], [10, 20, 30, 40, 50]) == pytest.approx([1] * 5)
    assert jackknife([1, 2, 3], [3, 1, 2]) == pytest.approx([-0.5])
