"""What few labels buy on an ideal representation: the closed form, counting by hand, and the probe."""

import itertools

import pytest
import torch

from issl_engine.theory.etf import rotated, simplex_etf
from issl_engine.theory.few_labels import expected_accuracy
from issl_engine.theory.linear_probes import linear_probes


def by_hand(num_classes: int, images_per_class: int, labelled: int) -> float:
    """Over all choices of labelled images: seen classes are right, others get the side with more classes seen."""
    sides = [c < num_classes // 2 for c in range(num_classes)]
    every = list(itertools.combinations(range(num_classes * images_per_class), labelled))
    total = 0.0
    for chosen in every:
        seen = {place // images_per_class for place in chosen}
        votes = sum(1 if sides[c] else -1 for c in seen)
        for c in range(num_classes):
            total += 1 if c in seen else 0.5 if votes == 0 else float(sides[c] == (votes > 0))
    return total / len(every) / num_classes


@pytest.mark.parametrize("sizes", [(2, 3, 2), (4, 2, 3), (4, 3, 2), (6, 2, 4)])
def test_it_is_the_count_over_all_choices(sizes: tuple[int, int, int]) -> None:
    assert expected_accuracy(*sizes) == pytest.approx(by_hand(*sizes), abs=1e-12)


def test_ninety_percent_is_reached_at_4_16_and_32_labels() -> None:
    counts = (2, 4, 8, 16, 32, 64, 128)
    reached = [next(n for n in counts if expected_accuracy(C, 1024 // C, n) >= 0.9) for C in (2, 8, 16)]
    assert reached == [4, 16, 32]


def test_the_converged_probe_is_as_right_as_the_closed_form_says() -> None:
    classes_N = torch.arange(8).repeat_interleave(8)
    kinds_N = classes_N >= 4
    found = []
    for draw in range(150):
        chosen = torch.randperm(64, generator=torch.Generator().manual_seed(draw))[:7]
        x_Nd = rotated(simplex_etf(8), draw)[classes_N]
        scored = linear_probes(x_Nd[chosen], kinds_N[chosen][None], x_Nd, weight_decay=1e-3)
        found.append(1 - float(scored.errors(kinds_N[None])))
    accuracy = torch.tensor(found, dtype=torch.float64)
    assert abs(float(accuracy.mean()) - expected_accuracy(8, 8, 7)) < 4 * float(accuracy.std()) / 150**0.5
