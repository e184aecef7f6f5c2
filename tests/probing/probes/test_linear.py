"""The linear probe: solved to its optimum, chosen on held-out images, and its keys."""

import logging
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.few_labels import FewLabelsProbeConfig
from issl_engine.probing.probes.linear import LinearProbeConfig
from issl_engine.probing.probes.linear_sgd import LinearSGDProbeConfig
from issl_engine.probing.probes.logistic import LogisticProbeConfig

from ..conftest import NUM_CLASSES, blobs, evaluated, fitted, shuffled_labels, top1


def parts() -> dict[str, Features]:
    return {name: blobs(count, seed=seed, noise=2) for seed, (name, count) in enumerate(SIZES.items())}


SIZES = {"train": 300, "held_out": 200, "test": 400}


def test_a_penalty_is_of_the_mean_loss_and_so_of_no_number_of_images() -> None:
    once = blobs(200, seed=0, noise=2)
    twice = once.joined(once)
    point = {"standardise": True, "weight_decay": 1e-2}
    probe = LinearProbeConfig(tolerance=1e-7)
    first, second = (fitted(probe, features, point).predictor.state()["weights"] for features in (once, twice))
    torch.testing.assert_close(first, second, rtol=1e-2, atol=2e-3)


def test_it_is_scikit_learns_optimum_and_the_gap_is_reported() -> None:
    fit, point = blobs(400, seed=0, noise=2), {"standardise": True, "weight_decay": 1e-3}
    found = fitted(LinearProbeConfig(tolerance=1e-6), fit, point)
    x_ND = ((fit.x_ND - fit.x_ND.mean(0)) / fit.x_ND.std(0, correction=0)).double()
    oracle = LogisticRegression(C=1 / (1e-3 * 400), tol=1e-9, max_iter=2000).fit(x_ND.numpy(), fit.labels_N.numpy())
    expected_NC = torch.from_numpy(oracle.predict_proba(x_ND.numpy()))
    (logits_NC,) = found.predictor.outputs(fit.x_ND).transpose(1, 2)
    torch.testing.assert_close(logits_NC.softmax(1).double(), expected_NC, rtol=0, atol=2e-3)
    (result,) = found.judge(fit)
    assert result.optimality_gap is not None
    assert 0 < result.optimality_gap <= 1e-6


def test_no_shorter_run_by_sgd_has_a_smaller_loss() -> None:
    """The comparison that made the probe what it is: 15 epochs are short of the optimum."""
    whole = blobs(500, seed=0, noise=2)
    point = {"standardise": True, "weight_decay": 1e-4}
    solved = fitted(LinearProbeConfig(), whole, point)
    sgd = fitted(LinearSGDProbeConfig(), whole, {"batch_norm": True, "lr": 0.1, "weight_decay": 1e-4})

    def loss(point: Any) -> float:
        outputs_CN = point.predictor.outputs(whole.x_ND)[0]
        penalty = 1e-4 / 2 * point.predictor.state()["weights"].square().sum()
        return float(torch.nn.functional.cross_entropy(outputs_CN.T, whole.labels_N) + penalty)

    assert loss(solved) < loss(sgd)


def test_the_choice_is_the_best_on_the_held_out_part_and_never_sees_the_test_split() -> None:
    probe = LinearProbeConfig(weight_decays=(10.0, 1e-2, 1e-5), standardise=(True, False))
    images = parts()
    honest = evaluated(probe, **images)
    spoilt = evaluated(probe, images["train"], images["held_out"], shuffled_labels(images["test"]))
    assert (honest.chosen, honest.held_out_value) == (spoilt.chosen, spoilt.held_out_value)
    assert honest.value > spoilt.value + 20
    scores = top1(probe, images["train"], images["held_out"], probe.points())
    assert len(scores) == 6
    assert honest.held_out_value == max(scores)
    assert honest.num_train_images == 500


@pytest.mark.parametrize("standardise", [True, False])
def test_the_place_and_the_size_of_features_do_not_matter(standardise: bool) -> None:
    """One number for all features, so of the same relative sizes."""
    fit, score = blobs(300, seed=0, noise=2), blobs(200, seed=1, noise=2)
    probe = LinearProbeConfig(standardise=(standardise,))
    sized = [Features(x_ND=1e3 * each.x_ND, labels_N=each.labels_N) for each in (fit, score)]
    assert top1(probe, *sized, probe.points()) == pytest.approx(top1(probe, fit, score, probe.points()), abs=1)


def test_a_class_without_images_is_never_told() -> None:
    fit = blobs(200, seed=0)
    some = fit.subset((fit.labels_N != 2).nonzero().flatten())
    (result,) = fitted(LinearProbeConfig(), some, {"standardise": True, "weight_decay": 1e-3}).judge(some)
    assert result.optimality_gap is not None
    assert result.optimality_gap <= 1e-4
    point = fitted(LinearProbeConfig(), some, {"standardise": True, "weight_decay": 1e-3})
    assert 2 not in point.predictor.predict(100 * torch.randn(500, fit.width))
    ranked_SBK = point.predictor.ranked(fit.x_ND, 5)
    assert 2 not in ranked_SBK
    assert (ranked_SBK[..., -1] == -1).all()


def test_a_run_that_is_cut_short_warns_and_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    probe = LinearProbeConfig(weight_decays=(1e-5,), max_iterations=2)
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        result = evaluated(probe, **parts())
    assert result.optimality_gap is not None
    assert result.optimality_gap > 1e-4
    (first, *_) = [record.message for record in caplog.records]
    assert first.startswith("the probe linear at standardise true, weight decay 1e-05 may be ")
    assert "raise max_iterations" in first
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="issl_engine"):
        evaluated(LinearProbeConfig(), **parts())
    assert not caplog.records


def test_the_gap_is_unknown_where_there_is_none() -> None:
    assert evaluated(LinearSGDProbeConfig(epochs=1), **parts()).optimality_gap is None
    assert evaluated(LogisticProbeConfig(Cs=(0.1,)), **parts()).optimality_gap is not None


def test_few_labels_report_the_largest_gap_of_their_draws() -> None:
    probe = FewLabelsProbeConfig(probe={"name": "linear"}, fractions=(), shots=(5,), draws=3)  # type: ignore[arg-type]
    (result,) = probe.evaluate(**parts(), num_classes=NUM_CLASSES, seed=0)
    assert result.setting == "5-shot, linear"
    assert result.optimality_gap is not None
    assert 0 < result.optimality_gap <= 1e-4


@pytest.mark.parametrize(
    "bad",
    [
        {"weight_decays": ()}, {"weight_decays": (0.0,)}, {"standardise": ()}, {"tolerance": 0.0},
        {"max_iterations": 0}, {"lrs": (0.1,)}, {"metrics": ()}, {"metrics": ("top2",)},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LinearProbeConfig(**bad)
