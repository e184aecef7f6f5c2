"""The number of equivalence classes is found where it is known."""

import pytest
import torch
from torch import Tensor

from issl_engine.theory.overlap import connected_components, estimate_classes, join_threshold, nearest_views


def views_of_classes(
    num_classes: int, per_class: int, *, spread: float = 0.05, num_views: int = 6, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Views [n, V, 8] scattered around a point per class, and the class of each image."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_classes, 8, generator=generator)
    classes = torch.arange(num_classes).repeat_interleave(per_class)
    noise = torch.randn(len(classes), num_views, 8, generator=generator)
    return centres[classes][:, None] + spread * noise, classes


@pytest.mark.parametrize("num_classes", [4, 16, 40])
def test_known_classes_are_found_with_labels_and_without(num_classes: int) -> None:
    views, classes = views_of_classes(num_classes, 240 // num_classes)
    unlabelled = estimate_classes(views, None, num_images=240)
    assert unlabelled.estimate == unlabelled.seen == pytest.approx(num_classes, rel=0.1)
    # Labels are coarser than the classes: two classes each.
    labelled = estimate_classes(views, classes // 2, num_images=240)
    assert labelled.evidence
    assert labelled.low == num_classes // 2
    assert labelled.estimate == pytest.approx(num_classes, rel=0.2)


def test_of_a_sample_the_classes_of_all_images_are_estimated() -> None:
    views, classes = views_of_classes(50, 40)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))[:120]
    seen = len(classes[order].unique())
    assert seen < 48
    unlabelled = estimate_classes(views[order], None, num_images=2000)
    assert unlabelled.low <= seen + 2 < unlabelled.estimate <= 75
    labelled = estimate_classes(views[order], classes[order] % 5, num_images=2000)
    assert 30 <= labelled.estimate <= 75


def test_accidents_are_distinguished_from_equivalence_by_labels() -> None:
    """Views that overlap everywhere, whatever the label: nothing shows that any two images are equivalent."""
    views, _ = views_of_classes(240, 1, spread=1.0)
    labels = torch.arange(240) % 6
    found = estimate_classes(views, labels, num_images=5000)
    assert found.joined_two_labels is not None
    assert found.joined_two_labels > 0.05
    assert not found.evidence
    assert (found.low, found.estimate, found.high) == (6, 5000, 5000)


def test_images_that_share_no_view_are_classes_of_their_own() -> None:
    views, _ = views_of_classes(100, 1, spread=0.01)
    assert estimate_classes(views, None, num_images=100).estimate == 100
    assert estimate_classes(views, None, num_images=7000).estimate == pytest.approx(100 + 100 * 99 / 2)
    assert estimate_classes(views, torch.arange(100) % 4, num_images=7000).estimate == 7000


def test_labels_that_are_all_alike_say_nothing() -> None:
    views, _ = views_of_classes(5, 20)
    found = estimate_classes(views, torch.full((100,), -1), num_images=100)
    assert found.joined_one_label is None
    assert found.estimate == 5


def test_two_images_of_one_class_are_joined_with_the_probability_that_the_threshold_is_made_for() -> None:
    views, _ = views_of_classes(1, 300, num_views=8)
    joined = nearest_views(views) <= join_threshold(views)
    share = float(joined[torch.ones(300, 300).triu(1).bool()].double().mean())
    assert 0.85 < share < 0.97  # pairs of views of two images share views, so they are not quite independent


def test_components_are_those_of_a_chain() -> None:
    joined = torch.zeros(7, 7, dtype=torch.bool)
    for a, b in ((0, 6), (6, 3), (3, 5), (1, 2)):
        joined[a, b] = joined[b, a] = True
    assert connected_components(joined).tolist() == [0, 1, 1, 0, 2, 0, 0]
