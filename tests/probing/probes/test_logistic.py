"""Logistic regression against scikit-learn's, C for C, to the probabilities."""

import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.logistic import LogisticProbeConfig

from ..conftest import blobs, evaluated, fitted, shuffled_labels, top1


@pytest.mark.parametrize("C", [0.003, 0.25])
def test_a_c_is_scikit_learns_c(C: float) -> None:
    fit = blobs(400, seed=0, noise=2)
    point = fitted(LogisticProbeConfig(Cs=(C,), tolerance=1e-7), fit, {"C": C})
    x_ND = ((fit.x_ND - fit.x_ND.mean(0)) / fit.x_ND.std(0, correction=0)).double()
    oracle = LogisticRegression(C=C, tol=1e-8, max_iter=2000).fit(x_ND.numpy(), fit.labels_N.numpy())
    (logits_CN,) = point.predictor.outputs(fit.x_ND)
    expected = torch.from_numpy(oracle.predict_proba(x_ND.numpy()))
    torch.testing.assert_close(logits_CN.T.softmax(1).double(), expected, rtol=0, atol=2e-3)


def test_it_chooses_on_the_held_out_part_and_never_sees_the_test_split() -> None:
    train, held_out, test = (blobs(count, seed=seed, noise=2) for seed, count in enumerate((150, 200, 400)))
    path = (1e-4, 1e-2, 1e3)
    probe = LogisticProbeConfig(Cs=path)
    honest, spoilt = (evaluated(probe, train, held_out, split) for split in (test, shuffled_labels(test)))
    assert honest.chosen == spoilt.chosen
    assert honest.held_out_value == spoilt.held_out_value
    assert honest.value > spoilt.value + 20
    assert honest.num_train_images == 350
    scores = top1(probe, train, held_out, probe.points())
    assert len(set(scores)) == 3
    assert honest.held_out_value == max(scores)
    assert honest.chosen["C"] == path[scores.index(max(scores))]


@pytest.mark.parametrize(("chosen", "at_edge"), [(1e-3, True), (1e-2, False), (1e-1, True)])
def test_a_choice_at_the_edge_of_the_grid_is_said(chosen: float, at_edge: bool) -> None:
    probe = LogisticProbeConfig(Cs=(1e-2, 1e-1, 1e-3))
    assert ("edge" in probe.grid_text({"C": chosen}, "")) is at_edge


def test_the_order_of_the_strengths_does_not_matter() -> None:
    parts = {"train": blobs(150, seed=0), "held_out": blobs(100, seed=1), "test": blobs(100, seed=2)}
    first, other = (evaluated(LogisticProbeConfig(Cs=Cs), **parts) for Cs in ((0.001, 0.1), (0.1, 0.001)))
    assert (first.value, first.chosen) == (other.value, other.chosen)
    assert first.value == pytest.approx(95, abs=5)


def test_features_of_any_scale_give_the_same_predictions() -> None:
    fit, score = blobs(150, seed=0, noise=2), blobs(100, seed=1, noise=2)
    far = [Features(x_ND=1000 * part.x_ND + 500, labels_N=part.labels_N) for part in (fit, score)]
    probe = LogisticProbeConfig(Cs=(0.01, 1.0))
    assert top1(probe, far[0], far[1], probe.points()) == pytest.approx(top1(probe, fit, score, probe.points()), abs=1)


@pytest.mark.parametrize("bad", [{"Cs": ()}, {"Cs": (0.0,)}, {"max_iterations": 0}])
def test_impossible_paths_are_refused(bad: dict) -> None:
    with pytest.raises(ValidationError):
        LogisticProbeConfig(**bad)
