"""The local optimum of merged classes, tried on the engine's own loss."""

import math

import pytest
import torch

from issl_engine.theory.merging import least_signal
from issl_kernels import distillation


def change(signal: float, invariance_weight: float, *, step: float = 0.03) -> float:
    """By how much the loss changes where two merged classes are parted by a feature of this B / W; the student is at
    its best. Views are -1 or +1 of the noise, each as often, so that all means are exact."""
    between, noise = math.sqrt(signal), torch.tensor([-1.0, 1.0], dtype=torch.float64)
    rows = [(c * between + a, c * between + b) for c in (-1, 1) for a in noise for b in noise]
    feature_VB = torch.tensor(rows, dtype=torch.float64).T
    share = signal / (signal + 1)

    def loss(e: float) -> float:
        logits = [
            torch.stack([torch.log1p(scale * e * feature_VB), torch.log1p(-scale * e * feature_VB)], dim=2)
            for scale in (1.0, share)
        ]
        found, _ = distillation(
            *logits, teacher_temperature=1.0, student_temperature=1.0, entropy_weight=2.3,
            invariance_weight=invariance_weight,
        )  # fmt: skip
        return float(found)

    return loss(step) - loss(0.0)


@pytest.mark.parametrize("invariance_weight", [0.1, 0.2, 0.8])
def test_a_feature_parts_merged_classes_only_above_the_threshold(invariance_weight: float) -> None:
    threshold = least_signal(invariance_weight)
    assert change(0.85 * threshold, invariance_weight) > 0  # parting costs: a local optimum
    assert change(1.15 * threshold, invariance_weight) < 0


def test_without_invariance_weight_every_feature_parts_them() -> None:
    assert least_signal(0.0) == 0
    for signal in (0.02, 0.1, 1.0):
        assert change(signal, 0.0) < 0


def test_a_heavier_invariance_weight_asks_for_a_cleaner_feature() -> None:
    assert [round(least_signal(beta), 2) for beta in (0.0, 0.2, 0.4, 0.8)] == [0.0, 0.41, 0.53, 0.67]
