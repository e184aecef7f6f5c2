"""Closed-form least squares against scikit-learn's Ridge: more images than features, and fewer."""

import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import Ridge
from torch.nn import functional as F

from issl_engine.probing.features.features import CPU
from issl_engine.probing.probes.fitting.ridge_path import ridge_path
from issl_engine.probing.probes.ridge import RidgeProbeConfig

from ..conftest import NUM_CLASSES, blobs, evaluated, shuffled_labels, top1

PENALTIES = [1e-3, 0.1, 10.0]


@pytest.mark.parametrize("count", [8, 300])
@pytest.mark.parametrize("rows", [5, 4096])
def test_each_penalty_gives_scikit_learns_solution(count: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("features.features", "probes.fitting.ridge_path"):
        monkeypatch.setattr(f"issl_engine.probing.{module}.BLOCK_ROWS", rows)
    fit = blobs(count, seed=0)
    targets_NT = torch.randn(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 5
    outputs = ridge_path(fit, lambda part: targets_NT[part], PENALTIES, CPU).predict(fit.x_ND)
    x_ND = (fit.x_ND.double() - fit.x_ND.double().mean(0)) / (fit.x_ND.double().var(0, correction=0) + 1e-5).sqrt()
    for penalty, found_NT in zip(PENALTIES, outputs, strict=True):
        oracle = Ridge(alpha=penalty * count, solver="svd").fit(x_ND.numpy(), targets_NT.numpy())
        expected = torch.from_numpy(oracle.predict(x_ND.numpy()))
        torch.testing.assert_close(found_NT.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_class_is_the_largest_of_one_hot_regressions() -> None:
    fit, score = blobs(200, seed=0, noise=2), blobs(150, seed=1, noise=2)
    probe = RidgeProbeConfig(penalties=(1e-3, 1.0))
    shift, scale = fit.x_ND.double().mean(0), fit.x_ND.double().std(0, correction=0)
    expected = []
    for penalty in probe.penalties:
        oracle = Ridge(alpha=penalty * len(fit))
        oracle.fit(((fit.x_ND - shift) / scale).numpy(), F.one_hot(fit.labels_N, NUM_CLASSES).numpy())
        predicted = torch.from_numpy(oracle.predict(((score.x_ND - shift) / scale).numpy())).argmax(1)
        expected.append(100 * (predicted == score.labels_N).double().mean().item())
    assert top1(probe, fit, score, probe.points()) == pytest.approx(expected)
    assert 50 < expected[0] < 99


def test_the_choice_never_sees_the_test_split() -> None:
    train, held_out, test = (blobs(count, seed=seed, noise=2) for seed, count in enumerate((100, 200, 300)))
    probe = RidgeProbeConfig(penalties=(1e-5, 0.3, 1e4))
    honest, spoilt = (evaluated(probe, train, held_out, split) for split in (test, shuffled_labels(test)))
    assert (honest.chosen, honest.held_out_value) == (spoilt.chosen, spoilt.held_out_value)
    assert honest.value > spoilt.value + 20
    scores = top1(probe, train, held_out, probe.points())
    assert honest.held_out_value == max(scores)
    assert honest.num_train_images == 300


@pytest.mark.parametrize("bad", [{"penalties": ()}, {"penalties": (0.0,)}])
def test_impossible_grids_are_refused(bad: dict) -> None:
    with pytest.raises(ValidationError):
        RidgeProbeConfig(**bad)
