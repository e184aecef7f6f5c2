"""Logistic regression against scikit-learn's, to the probabilities."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from issl_engine.probing import logistic
from issl_engine.probing.logistic import LogisticProbeConfig

from .conftest import NUM_CLASSES, blobs, shuffled_labels


def test_the_minimum_is_scikit_learns() -> None:
    fit = blobs(400, seed=0, noise=2)
    x_ND = (fit.x_ND - fit.x_ND.mean(0)) / fit.x_ND.std(0)
    decay = 0.01
    weight_CD = torch.zeros(NUM_CLASSES, x_ND.shape[1], requires_grad=True)
    bias_C = torch.zeros(NUM_CLASSES, requires_grad=True)
    logistic._minimise(x_ND, fit.labels_N, weight_CD, bias_C, decay, 200)
    oracle = LogisticRegression(C=1 / (len(fit) * decay), tol=1e-8, max_iter=2000)
    oracle.fit(x_ND.double().numpy(), fit.labels_N.numpy())
    logits_NC = x_ND @ weight_CD.detach().T + bias_C.detach()
    expected = torch.from_numpy(oracle.predict_proba(x_ND.double().numpy()))
    torch.testing.assert_close(logits_NC.softmax(1).double(), expected, rtol=0, atol=2e-3)


def test_it_chooses_on_the_held_out_part_and_never_sees_the_test_split() -> None:
    train, held_out, test = (blobs(count, seed=seed, noise=2) for seed, count in enumerate((150, 200, 400)))
    path = [10.0, 0.1, 1e-6]
    probe = LogisticProbeConfig(weight_decays=tuple(path))
    honest, spoilt = (
        probe.evaluate(train=train, held_out=held_out, test=split, num_classes=NUM_CLASSES, seed=0)
        for split in (test, shuffled_labels(test))
    )
    assert honest.chosen == spoilt.chosen
    assert honest.held_out_value == spoilt.held_out_value
    assert honest.value > spoilt.value + 20
    assert honest.num_train_images == 350
    scores = probe._path(train, held_out, path, NUM_CLASSES)
    assert len(set(scores)) == 3
    assert honest.held_out_value == max(scores)
    assert honest.chosen["weight_decay"] == path[scores.index(max(scores))]


@pytest.mark.parametrize(("chosen", "at_edge"), [(1e-3, True), (1e-2, False), (1e-1, True)])
def test_a_choice_at_the_edge_of_the_grid_is_said(chosen: float, at_edge: bool) -> None:
    probe = LogisticProbeConfig(weight_decays=(1e-2, 1e-1, 1e-3))
    assert ("edge" in probe._describe(chosen)) is at_edge


def test_the_order_of_the_penalties_does_not_matter() -> None:
    parts = {"train": blobs(150, seed=0), "held_out": blobs(100, seed=1), "test": blobs(100, seed=2)}
    first, other = (
        LogisticProbeConfig(weight_decays=decays).evaluate(**parts, num_classes=NUM_CLASSES, seed=0)
        for decays in ((1e-3, 1e-1), (1e-1, 1e-3))
    )
    assert (first.value, first.chosen) == (other.value, other.chosen)
    assert first.value == pytest.approx(95, abs=5)
