"""Measures of classes: distance to a simplex ETF, variability collapse, use of assignments."""

import math

import numpy as np
import pytest
import torch

from issl_engine.measures.assignment_use import assignment_use
from issl_engine.measures.checked_features import class_means
from issl_engine.measures.simplex_etf import etf_angle_std, etf_cosine, etf_distance, optimal_etf_cosine
from issl_engine.measures.variability_collapse import variability_collapse
from issl_engine.objectives.base import AssignmentMetrics

from .conftest import normal, simplex_etf

UNEVEN = torch.tensor([2, 0, 0, 1, 2, 2, 2, 1, 0, 1, 2, 2] * 3)


def test_a_perfect_etf_has_the_theorys_cosine_and_no_distance() -> None:
    for C in (2, 5, 10):
        means_CD = simplex_etf(C, 12)
        assert etf_cosine(means_CD) == pytest.approx(-1 / (C - 1)) == optimal_etf_cosine(C)
        assert etf_angle_std(means_CD) == pytest.approx(0, abs=1e-7)
        assert etf_distance(means_CD) == pytest.approx(0, abs=1e-7)


def test_an_etf_of_images_gives_one_of_classes() -> None:
    """Why a representation that knows no labels can be optimal for them: classes are unions of images."""
    means_CD, _ = class_means(simplex_etf(12, 30), torch.arange(12) % 4)
    assert etf_cosine(means_CD) == pytest.approx(-1 / 3)
    assert etf_distance(means_CD) == pytest.approx(0, abs=1e-7)


def test_etf_measures_equal_loops_over_pairs() -> None:
    means = normal(7, 4).numpy() + 3
    centred = means - means.mean(0)
    pairs = [(a, b) for a in range(7) for b in range(a)]
    cosines = [centred[a] @ centred[b] / np.linalg.norm(centred[a]) / np.linalg.norm(centred[b]) for a, b in pairs]
    assert etf_cosine(torch.from_numpy(means)) == pytest.approx(np.mean(cosines))
    assert etf_angle_std(torch.from_numpy(means)) == pytest.approx(np.std(cosines))
    gram, etf = centred @ centred.T, np.eye(7) - np.full((7, 7), 1 / 7)
    expected = np.linalg.norm(gram / np.linalg.norm(gram) - etf / np.linalg.norm(etf))
    assert etf_distance(torch.from_numpy(means)) == pytest.approx(expected)


def test_a_class_at_the_centre_is_at_right_angles_to_all() -> None:
    assert etf_cosine(torch.tensor([[1.0, 0], [-1, 0], [0, 0]])) == pytest.approx(-1 / 3)


def test_unequal_lengths_are_a_distance_though_angles_agree() -> None:
    means_CD = simplex_etf(5, 8)
    longer = means_CD - means_CD.mean(0)
    longer = longer * torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64)[:, None]
    assert etf_distance(longer) > 0.3


def test_class_means_follow_the_labels() -> None:
    x_ND = normal(36, 3)
    means_CD, count_C = class_means(x_ND, UNEVEN * 10)
    assert count_C.tolist() == [9, 9, 18]
    for row, label in enumerate((0, 1, 2)):
        torch.testing.assert_close(means_CD[row], x_ND[label == UNEVEN].mean(0))


def test_variability_collapse_equals_its_definition_with_explicit_matrices() -> None:
    x = normal(36, 4).numpy() + UNEVEN.numpy()[:, None] * np.array([1.0, 0, 0.5, 0]) + 3
    overall, total, between = x.mean(0), np.zeros((4, 4)), np.zeros((4, 4))
    for row, label in zip(x, UNEVEN.tolist()):
        mean = x[UNEVEN.numpy() == label].mean(0)
        total += np.outer(row - overall, row - overall) / 36
        between += np.outer(mean - overall, mean - overall) / 36
    expected = 1 - np.trace(np.linalg.pinv(total) @ between) / np.linalg.matrix_rank(between)
    found = variability_collapse(torch.from_numpy(x), UNEVEN)
    assert found == pytest.approx(expected)
    linear_map = normal(4, 4, seed=9)
    assert variability_collapse(torch.from_numpy(x) @ linear_map, UNEVEN) == pytest.approx(found)


def test_variability_collapse_is_0_without_spread_in_classes_and_near_1_without_classes() -> None:
    collapsed = simplex_etf(3, 6)[UNEVEN]
    assert variability_collapse(collapsed, UNEVEN) == pytest.approx(0, abs=1e-9)
    labels = torch.arange(2000) % 4
    assert variability_collapse(normal(2000, 6), labels) == pytest.approx(1, abs=0.01)


def test_assignment_use_reads_the_objectives_own_metrics() -> None:
    of = AssignmentMetrics(100, "perplexity", "used")
    found = assignment_use({"perplexity": 10.0, "used": 8.0, "other": 1.0}, of, num_rows=16)
    assert found == pytest.approx(
        {"marginal_entropy": math.log(10), "marginal_entropy_share": 0.5, "used_classes_share": 0.5}
    )
    uniform = assignment_use({"perplexity": 100.0, "used": 100.0}, of, num_rows=4000)
    assert uniform["marginal_entropy_share"] == pytest.approx(1)
    assert uniform["used_classes_share"] == 1


def test_what_has_no_value_is_refused() -> None:
    with pytest.raises(ValueError, match="only one"):
        class_means(normal(4, 2), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="as many labels"):
        class_means(normal(4, 2), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="more images than dimensions"):
        variability_collapse(normal(4, 6), torch.arange(4) % 2)
    with pytest.raises(ValueError, match="collapsed to a point"):
        variability_collapse(torch.full((6, 3), 0.1), torch.arange(6) % 2)
    for measure in (etf_cosine, etf_angle_std, etf_distance):
        with pytest.raises(ValueError, match="only one"):
            measure(normal(1, 3))
        with pytest.raises(ValueError, match="collapsed to a point"):
            measure(torch.full((4, 3), 0.1))
