"""Counter-examples: what fails without each requirement, without any training."""

import math

import pytest
import torch

from issl_engine.mistakes import Mistake
from issl_engine.theory.by_construction import interpolating_mlp_errors, on_a_circle, on_a_line
from issl_engine.theory.etf import projected_etf
from issl_engine.theory.labelings import binary_labelings, separable_dichotomies
from issl_engine.theory.linear_probes import linear_probes


@pytest.mark.parametrize("num_classes", [4, 5, 8])
def test_of_classes_on_a_circle_only_arcs_are_linear(num_classes: int) -> None:
    vectors, labelings = on_a_circle(num_classes), binary_labelings(num_classes, 127, 0)
    solved = linear_probes(vectors, labelings, vectors, weight_decay=1e-8).errors(labelings) == 0
    changes = (labelings != labelings.roll(1, dims=1)).sum(1)
    assert torch.equal(solved, changes == 2)
    assert int(solved.sum()) == math.comb(num_classes, 2) == separable_dichotomies(num_classes, 2) // 2 - 1


@pytest.mark.parametrize("num_classes", [3, 8])
def test_an_mlp_of_c_minus_1_units_solves_every_labeling_of_classes_that_differ(num_classes: int) -> None:
    labelings = binary_labelings(num_classes, 127, 0)
    for vectors in (on_a_line(num_classes), on_a_circle(num_classes), projected_etf(num_classes, 3, 0)):
        assert interpolating_mlp_errors(vectors, labelings, vectors, labelings).max() == 0
        swapped = vectors.roll(1, dims=0)  # an encoder that gives new drawings another class's vector
        worst = float(interpolating_mlp_errors(vectors, labelings, swapped, labelings).max())
        assert worst == pytest.approx(1 - num_classes % 2 / num_classes)


def test_classes_with_one_vector_are_beyond_every_probe() -> None:
    vectors = on_a_line(4)
    vectors[1] = vectors[0]
    with pytest.raises(Mistake, match="two classes have one vector"):
        interpolating_mlp_errors(vectors, binary_labelings(4, 7, 0), vectors, binary_labelings(4, 7, 0))
