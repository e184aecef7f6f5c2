"""Invariant tasks, which of them hyperplanes can make, and the probes that try."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from issl_engine.theory.etf import projected_etf, simplex_etf
from issl_engine.theory.labelings import (
    binary_labelings,
    labels_of_images,
    least_mean_error,
    least_worst_error,
    separable_dichotomies,
)
from issl_engine.theory.linear_probes import linear_probes
from issl_engine.theory.mlp_probes import mlp_probes


def test_up_to_its_opposite_every_labeling_is_there_once() -> None:
    labelings = binary_labelings(5, most=127, seed=0)
    found = {tuple(row) for row in labelings.tolist()}
    expected = {(False, *rest) for rest in itertools.product([False, True], repeat=4) if any(rest)}
    assert len(labelings) == 15
    assert found == expected


def test_of_many_classes_labelings_are_drawn_without_repeats_and_none_is_constant() -> None:
    labelings = binary_labelings(40, most=50, seed=1)
    assert labelings.shape == (50, 40)
    assert len({tuple(row) for row in labelings.tolist()}) == 50
    assert labelings.any(1).all()
    assert not labelings.all(1).any()
    assert torch.equal(labelings, binary_labelings(40, most=50, seed=1))
    assert not torch.equal(labelings, binary_labelings(40, most=50, seed=2))


def test_labels_are_constant_on_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(6, (100,), generator=generator)
    labels = labels_of_images(binary_labelings(6, 31, 0), classes)
    assert labels.shape == (31, 100)
    for c in range(6):
        assert (labels[:, classes == c] == labels[:, classes == c][:, :1]).all()


def test_the_number_of_separable_labelings_is_covers() -> None:
    assert separable_dichotomies(4, 1) == 8
    assert separable_dichotomies(4, 2) == 14  # all but the two of XOR
    assert separable_dichotomies(4, 3) == separable_dichotomies(4, 9) == 16
    assert separable_dichotomies(8, 6) == 254


def points(vectors_Cd: Tensor, labelings_LC: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three images per class, at the class's vector, and their labels."""
    classes = torch.arange(len(vectors_Cd)).repeat_interleave(3)
    labels = labels_of_images(labelings_LC, classes)
    return vectors_Cd[classes].float(), labels, vectors_Cd[classes].float(), labels


def linear_errors(fit: Tensor, labels_LN: Tensor, judged: Tensor, judged_LM: Tensor) -> Tensor:
    return linear_probes(fit, labels_LN, judged).errors(judged_LM)


@pytest.mark.parametrize("num_classes", [3, 4, 6])
def test_at_c_minus_1_dimensions_every_labeling_of_an_etf_is_linear_and_below_some_are_not(num_classes: int) -> None:
    labelings = binary_labelings(num_classes, 127, 0)
    assert linear_errors(*points(simplex_etf(num_classes), labelings)).max() == 0
    for dim in range(1, num_classes - 1):
        errors = linear_errors(*points(projected_etf(num_classes, dim, seed=0), labelings))
        separable = int((errors == 0).sum())
        assert separable == separable_dichotomies(num_classes, dim) // 2 - 1, dim
        assert errors.max() >= least_worst_error(num_classes, dim) - 1e-9
        assert errors.mean() >= least_mean_error(num_classes, dim) - 1e-9


def test_floors_are_zero_from_c_minus_1_on_and_never_rise() -> None:
    for floor in (least_worst_error, least_mean_error):
        values = [floor(8, dim) for dim in range(1, 12)]
        assert values == sorted(values, reverse=True)
        assert values[5] > 0
        assert values[6:] == [0.0] * 5
    assert least_worst_error(8, 6) == 1 / 8


def test_the_floor_of_the_worst_labeling_on_a_line_is_that_of_trying_all_thresholds() -> None:
    num_classes = 5
    made = {
        tuple(bool(value) for value in row)
        for cut in range(num_classes + 1)
        for row in (np.arange(num_classes) < cut, np.arange(num_classes) >= cut)
    }
    wrong = [
        min(sum(a != b for a, b in zip(labels, one)) for one in made)
        for labels in itertools.product([False, True], repeat=num_classes)
    ]
    assert len(made) == separable_dichotomies(num_classes, 1)
    assert 0 < least_worst_error(num_classes, 1) <= max(wrong) / num_classes


def test_an_mlp_probe_solves_what_no_linear_probe_of_that_width_does() -> None:
    vectors = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])
    xor = torch.tensor([[False, False, True, True]])
    fit = points(vectors, xor)
    assert linear_errors(*fit).item() >= 0.25
    found = mlp_probes(*fit, hidden_dim=16, steps=150, seed=0)
    assert found.errors_L.item() == 0
    stopped = mlp_probes(*fit, hidden_dim=16, steps=5, seed=0)
    assert 0 < found.gradient_norm < stopped.gradient_norm
