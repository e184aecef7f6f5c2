"""The batched linear probe by SGD: against torch.optim.SGD and scikit-learn, and blind to the test split."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.grid import Point
from issl_engine.probing.probes.linear_sgd import LinearSGDProbeConfig, fit_grid

from ..conftest import NUM_CLASSES, blobs, evaluated, shuffled_labels, top1


def point(lr: float, weight_decay: float, batch_norm: bool) -> Point:
    return {"batch_norm": batch_norm, "lr": lr, "weight_decay": weight_decay}


GRID = [point(lr, decay, batch_norm) for batch_norm in (True, False) for lr in (0.01, 0.3) for decay in (0.0, 0.05)]


def reference_sgd(x_ND, labels_N, lr: float, weight_decay: float, *, epochs: int, batch_size: int, seed: int):
    """torch.optim.SGD with autograd, one combination, in the dtype of ``x_ND``."""
    layer = torch.nn.Linear(x_ND.shape[1], NUM_CLASSES, dtype=x_ND.dtype)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    decayed: dict[str, Any] = {"params": [layer.weight], "weight_decay": weight_decay}
    free: dict[str, Any] = {"params": [layer.bias]}
    optimizer = torch.optim.SGD([decayed, free], lr=lr, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    steps = len(x_ND) // batch_size
    for epoch in range(epochs):
        order = torch.randperm(len(x_ND), generator=generator)
        for step in range(steps):
            index = order[step * batch_size : (step + 1) * batch_size]
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 + math.cos(math.pi * (epoch * steps + step) / (epochs * steps))) / 2
            optimizer.zero_grad()
            F.cross_entropy(layer(x_ND[index]), labels_N[index]).backward()
            optimizer.step()
    return layer.weight.detach(), layer.bias.detach()


def normalisation(x_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale, offset) [2, 1, D]: standardised, then as it is."""
    scale_D = 1 / x_ND.std(0)
    return torch.stack([scale_D, torch.ones_like(scale_D)])[:, None], torch.stack(
        [-x_ND.mean(0) * scale_D, torch.zeros_like(scale_D)]
    )[:, None]


SHORT = LinearSGDProbeConfig(epochs=4, batch_size=32)


def test_the_batched_grid_is_a_loop_over_combinations() -> None:
    fit = blobs(103, seed=0)  # the last batch of an epoch is incomplete
    scale_G1D, offset_G1D = normalisation(fit.x_ND)
    weights_SCD, bias_SC = fit_grid(
        fit, scale_G1D, offset_G1D, GRID, num_classes=NUM_CLASSES, epochs=3, batch_size=16, seed=5
    )
    for s, chosen in enumerate(GRID):
        group = 0 if chosen["batch_norm"] else 1
        x_ND = (fit.x_ND.double() * scale_G1D[group] + offset_G1D[group]).double()
        weight, bias = reference_sgd(
            x_ND, fit.labels_N, float(chosen["lr"]), float(chosen["weight_decay"]), epochs=3, batch_size=16, seed=5
        )
        torch.testing.assert_close(weights_SCD[s].double(), weight, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(bias_SC[s].double(), bias, rtol=1e-4, atol=1e-4)


def test_each_combination_scores_as_it_does_alone() -> None:
    fit, score = blobs(300, seed=0), blobs(200, seed=1)
    together = top1(SHORT, fit, score, GRID)
    alone = [top1(SHORT, fit, score, [chosen])[0] for chosen in GRID]
    assert together == alone
    assert len(set(together)) > 3


def test_it_is_as_good_as_scikit_learn() -> None:
    train, held_out, test = blobs(1500, seed=0), blobs(300, seed=1), blobs(3000, seed=2)
    result = evaluated(LinearSGDProbeConfig(batch_size=64), train, held_out, test)
    whole = train.joined(held_out)
    # Standardised, its L-BFGS needs some tens of iterations and not hundreds.
    shift_D, scale_D = whole.x_ND.mean(0), 1 / whole.x_ND.std(0)
    oracle = LogisticRegression().fit(((whole.x_ND - shift_D) * scale_D).numpy(), whole.labels_N.numpy())
    expected = 100 * oracle.score(((test.x_ND - shift_D) * scale_D).numpy(), test.labels_N.numpy())
    assert 85 < expected < 99
    assert result.value == pytest.approx(expected, abs=1)
    assert (result.num_train_images, result.num_split_images) == (1800, 3000)


def test_standardisation_uses_the_fitted_images_alone() -> None:
    fit, score = blobs(300, seed=0), blobs(200, seed=1)
    moved = Features(x_ND=score.x_ND + 1000, labels_N=score.labels_N)
    grid = [point(0.1, 0.0, True)]
    (as_it_is,) = top1(SHORT, fit, score, grid)
    (far_away,) = top1(SHORT, fit, moved, grid)
    assert as_it_is > 80
    assert far_away < 50  # statistics of the scored images would undo the shift


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_size_of_the_features_does_not_matter(factor: float) -> None:
    fit, score = blobs(300, seed=0), blobs(200, seed=1)
    grid = [point(0.1, 0.0, False)]
    scaled = [Features(x_ND=part.x_ND * factor, labels_N=part.labels_N) for part in (fit, score)]
    (expected,) = top1(SHORT, fit, score, grid)
    (value,) = top1(SHORT, scaled[0], scaled[1], grid)
    assert value == pytest.approx(expected, abs=0.6)


def test_the_choice_never_sees_the_test_split() -> None:
    train, held_out, test = (
        blobs(400, seed=0, noise=2),
        blobs(100, seed=1, noise=2),
        blobs(300, seed=2, noise=2),
    )
    probe = LinearSGDProbeConfig(epochs=3)
    honest, spoilt = (evaluated(probe, train, held_out, split) for split in (test, shuffled_labels(test)))
    assert honest.chosen == spoilt.chosen
    assert honest.held_out_value == spoilt.held_out_value
    assert honest.value > spoilt.value + 20


def test_the_choice_is_the_best_on_the_held_out_part() -> None:
    train, held_out, test = blobs(400, seed=0), blobs(100, seed=1), blobs(100, seed=2)
    result = evaluated(
        LinearSGDProbeConfig(lrs=(1e-7, 0.1, 1e-6), weight_decays=(0.0, 10.0), epochs=5), train, held_out, test
    )
    assert result.chosen["lr"] == 0.1
    assert result.held_out_value > 80


def test_a_choice_at_the_edge_of_the_grid_is_said() -> None:
    parts = {"train": blobs(400, seed=0), "held_out": blobs(100, seed=1), "test": blobs(100, seed=2)}

    def grid_text(lrs: tuple[float, ...]) -> str:
        probe = LinearSGDProbeConfig(lrs=lrs, weight_decays=(0.0,), batch_norm=(True,), epochs=5)
        return evaluated(probe, **parts, seed=0).grid

    assert "edge" in grid_text((1e-7, 1e-6, 1e-1))
    assert "edge" not in grid_text((1e-7, 1e-1, 1e5))


@pytest.mark.parametrize(("chosen", "at_edge"), [(0.0, False), (1e-4, False), (1e-3, True)])
def test_a_weight_decay_at_the_edge_is_said_but_zero_is_no_edge(chosen: float, at_edge: bool) -> None:
    probe = LinearSGDProbeConfig(lrs=(0.01, 0.1, 1.0), weight_decays=(1e-3, 0.0, 1e-4))
    text = probe.grid_text(point(0.1, chosen, True), "")
    assert ("chosen weight decay is at the grid's edge" in text) is at_edge
    assert "chosen lr" not in text


def test_a_smallest_weight_decay_above_zero_is_an_edge() -> None:
    probe = LinearSGDProbeConfig(lrs=(0.01, 0.1, 1.0), weight_decays=(1e-4, 1e-3))
    assert "edge" in probe.grid_text(point(0.1, 1e-4, True), "")


def test_a_value_given_twice_is_one_value() -> None:
    parts = {"train": blobs(200, seed=0), "held_out": blobs(100, seed=1), "test": blobs(100, seed=2)}
    once, twice = (
        evaluated(LinearSGDProbeConfig(epochs=2, lrs=lrs, weight_decays=(0.0,), batch_norm=norms), **parts, seed=0)
        for lrs, norms in (((0.01, 0.1), (True, False)), ((0.01, 0.1, 0.01), (True, False, True)))
    )
    assert (once.value, once.held_out_value, once.chosen) == (twice.value, twice.held_out_value, twice.chosen)


def test_the_seed_alone_decides_the_result() -> None:
    parts = {"train": blobs(200, seed=0), "held_out": blobs(100, seed=1), "test": blobs(100, seed=2)}
    first, again = (evaluated(LinearSGDProbeConfig(epochs=2), **parts, seed=4) for _ in "ab")
    assert first == again
    assert first.seed == 4


def test_weights_that_overflow_lose() -> None:
    fit, score = blobs(100, seed=0), blobs(100, seed=1)
    grid = [point(lr, 100.0, True) for lr in (1e-3, 1e4)]
    good, overflown = top1(LinearSGDProbeConfig(epochs=20, batch_size=10), fit, score, grid)
    assert good > 20
    assert overflown == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"lrs": ()},
        {"lrs": (0.0,)},
        {"weight_decays": (-1.0,)},
        {"batch_norm": ()},
        {"epochs": 0},
        {"batch_size": 0},
    ],
)
def test_impossible_grids_are_refused(bad: dict) -> None:
    with pytest.raises(ValidationError):
        LinearSGDProbeConfig(**bad)
