"""Attributes against scikit-learn: average precision, a logistic regression each, unknown ones."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.attribute_task import average_precision
from issl_engine.probing.probes.base import FitData, ProbeResult
from issl_engine.probing.probes.multi_label import MultiLabelProbeConfig
from issl_engine.sources.base import TargetTable

from ..conftest import blobs

PROBE = MultiLabelProbeConfig(Cs=(1e-4, 0.03, 1.0), tolerance=1e-7)
NAMES = ("common", "rare", "noisy")


def data(count: int, seed: int) -> Features:
    features = blobs(count, seed=seed)
    noise = np.random.default_rng(seed).normal(size=(count, 3)) * (1, 1, 5)
    x_NT = features.x_ND[:, :3].numpy() + noise
    has_NT = (x_NT > np.quantile(x_NT, (0.4, 0.9, 0.5), axis=0).diagonal()).astype(np.float32)
    return features.with_targets(None, TargetTable(names=NAMES, values_NT=has_NT))


def changed(features: Features, change) -> Features:
    assert features.attributes is not None
    values_NT = features.attributes.values_NT.copy()
    change(values_NT)
    return features.with_targets(None, TargetTable(names=NAMES, values_NT=values_NT))


def results(train: Features, held_out: Features, test: Features) -> dict[str, ProbeResult]:
    found = PROBE.evaluate(train=train, held_out=held_out, test=test, num_classes=5, seed=0)
    return {result.setting: result for result in found}


@pytest.mark.parametrize("levels", [3, 1000])
def test_average_precision_is_scikit_learns_with_ties_and_weights(levels: int) -> None:
    random = np.random.default_rng(0)
    output_N = random.integers(levels, size=200) / levels
    has_N = (random.random(200) < 0.3).astype(np.float32)
    counts_RN = random.integers(0, 4, (3, 200)).astype(np.float64)
    expected = [100 * average_precision_score(has_N, output_N, sample_weight=counts_N) for counts_N in counts_RN]
    assert average_precision(output_N, has_N, counts_RN) == pytest.approx(expected)
    assert np.isnan(average_precision(output_N, np.zeros(200), counts_RN)).all()


def test_each_attribute_is_scikit_learns_logistic_regression() -> None:
    train, held_out, test = data(200, 0), data(150, 1), data(300, 2)
    found = results(train, held_out, test)
    whole = train.joined(held_out)
    C = float(found[""].chosen["C"])
    shift, scale = whole.x_ND.mean(0), whole.x_ND.std(0, correction=0)
    expected = []
    for t, name in enumerate(NAMES):
        oracle = LogisticRegression(C=C, tol=1e-8, max_iter=1000)
        oracle.fit(((whole.x_ND - shift) / scale).numpy(), whole.attributes.values_NT[:, t])
        outputs = oracle.decision_function(((test.x_ND - shift) / scale).numpy())
        expected.append(100 * average_precision_score(test.attributes.values_NT[:, t], outputs))
        assert found[name].value == pytest.approx(expected[-1], abs=0.3)
        assert found[name].metric == "average_precision"
    assert found[""].value == pytest.approx(np.mean(expected), abs=0.2)
    assert (found[""].metric, found[""].num_split_images) == ("mean_average_precision", 300)
    assert found["common"].value > 70 > found["noisy"].value > 45


def test_the_choice_never_sees_the_test_split() -> None:
    train, held_out, test = data(200, 0), data(150, 1), data(300, 2)
    spoilt = changed(test, lambda values_NT: np.random.default_rng(0).shuffle(values_NT))
    honest, other = results(train, held_out, test)[""], results(train, held_out, spoilt)[""]
    assert (honest.chosen, honest.held_out_value) == (other.chosen, other.held_out_value)
    assert honest.value > other.value + 10
    points = PROBE.points()
    scores = PROBE.scores(train, held_out, points, FitData(train=train, held_out=held_out, num_classes=5, seed=0))
    assert honest.held_out_value == max(scores)
    assert len(set(scores)) == 3


def test_an_unknown_attribute_is_left_out_of_that_attribute_alone() -> None:
    train, held_out, test = data(200, 0), data(150, 1), data(300, 2)

    def forget(values_NT: np.ndarray) -> None:
        values_NT[::3, 1] = np.nan

    found, whole = results(changed(train, forget), held_out, changed(test, forget)), results(train, held_out, test)
    assert found["common"].value == pytest.approx(whole["common"].value, abs=1.5)
    assert found["rare"].value != whole["rare"].value
    point = PROBE.fit_points(
        changed(train, forget), [{"C": 0.03}], FitData(train=train, held_out=held_out, num_classes=5, seed=0)
    )
    known = torch.from_numpy(np.flatnonzero(np.arange(200) % 3))
    shift, scale = train.x_ND.mean(0), train.x_ND.std(0, correction=0)
    oracle = LogisticRegression(C=0.03, tol=1e-8, max_iter=1000)
    oracle.fit(((train.x_ND - shift) / scale)[known].numpy(), train.attributes.values_NT[known, 1])
    assert point.weights_SCD[0, 1].numpy() == pytest.approx(oracle.coef_[0], abs=5e-3)


def test_an_attribute_that_no_judged_image_has_is_left_out_of_the_mean() -> None:
    train, held_out, test = data(200, 0), data(150, 1), data(300, 2)

    def lose(values_NT: np.ndarray) -> None:
        values_NT[:, 1] = 0

    found = results(train, held_out, changed(test, lose))
    assert "rare" not in found
    assert found[""].value == pytest.approx((found["common"].value + found["noisy"].value) / 2)
    with pytest.raises(ValueError, match="no judged image has any of the attributes"):
        results(train, held_out, changed(test, lambda values_NT: values_NT.fill(0)))


def test_the_interval_is_that_of_resampled_images() -> None:
    train, held_out, test = data(200, 0), data(150, 1), data(300, 2)
    found = results(train, held_out, test)
    whole = train.joined(held_out)
    (outputs_NT,) = PROBE.fit_points(
        whole, [found[""].chosen], FitData(train=train, held_out=held_out, num_classes=5, seed=0)
    ).predict(test.x_ND)
    random, drawn = np.random.default_rng(1), []
    for _ in range(200):
        chosen = random.integers(300, size=300)
        drawn.append(100 * average_precision_score(test.attributes.values_NT[chosen, 0], outputs_NT[chosen, 0]))
    assert found["common"].interval == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))), abs=2)


def test_other_values_and_no_attributes_are_reported() -> None:
    train, held_out, test = data(50, 0), data(50, 1), data(50, 2)
    with pytest.raises(ValueError, match="an attribute is 2, but attributes are 1"):
        results(changed(train, lambda values_NT: values_NT.__setitem__((3, 1), 2)), held_out, test)
    with pytest.raises(ValueError, match=r"gives no attributes of images.*take it out of probes"):
        results(blobs(50, seed=0), blobs(50, seed=1), blobs(50, seed=2))
