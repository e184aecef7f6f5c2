"""The held-out split: disjoint, complete, balanced, the same for a seed."""

import numpy as np
import pytest
import torch

from issl_engine.probing.judging.splits import hold_out

LABELS = torch.tensor([0] * 40 + [1] * 20 + [2] * 2)[torch.randperm(62, generator=torch.Generator().manual_seed(3))]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
def test_every_image_is_in_exactly_one_part(fraction: float) -> None:
    kept, held_out = hold_out(LABELS, fraction, seed=0)
    assert sorted(torch.cat([kept, held_out]).tolist()) == list(range(62))


def test_each_class_gives_the_fraction_and_is_in_both_parts() -> None:
    kept, held_out = hold_out(LABELS, 0.1, seed=0)
    assert LABELS[held_out].bincount().tolist() == [4, 2, 1]
    assert LABELS[kept].bincount().tolist() == [36, 18, 1]
    assert LABELS[hold_out(LABELS, 0.99, seed=0)[0]].bincount().tolist() == [1, 1, 1]


def test_the_seed_decides_which_images_are_held_out() -> None:
    first, again, other = (hold_out(LABELS, 0.5, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_an_array_of_labels_is_split_like_a_tensor() -> None:
    for array, tensor in zip(hold_out(LABELS.numpy(), 0.3, seed=0), hold_out(LABELS, 0.3, seed=0), strict=True):
        assert array.dtype == torch.int64
        assert torch.equal(array, tensor)
    with pytest.raises(ValueError, match="class 1 has a single image"):
        hold_out(np.array([0, 0, 1]), 0.5, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_fraction_outside_0_and_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        hold_out(LABELS, fraction, seed=0)


def test_a_class_with_one_image_is_named() -> None:
    with pytest.raises(ValueError, match="class 7 has a single image"):
        hold_out(torch.tensor([0, 0, 7, 1, 1]), 0.5, seed=0)


def test_no_image_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no training image"):
        hold_out(torch.zeros(0, dtype=torch.int64), 0.1, seed=0)
