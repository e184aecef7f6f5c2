"""Regression of numbers against scikit-learn: R², RMSE, their intervals, unknown and constant targets."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, root_mean_squared_error

from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.bootstrap import resamples
from issl_engine.probing.probes.base import FitData, ProbeResult
from issl_engine.probing.probes.regression import RegressionProbeConfig
from issl_engine.sources.base import TargetTable

from ..conftest import blobs

PROBE = RegressionProbeConfig(penalties=(1e-3, 0.1, 1e3))


def data(count: int, seed: int) -> Features:
    """Two targets of unlike size: one mostly linear in the features, one mostly noise."""
    features = blobs(count, seed=seed)
    noise = np.random.default_rng(seed)
    x_ND = features.x_ND.numpy()
    values_NT = np.stack(
        [x_ND[:, 0] - x_ND[:, 1] + 0.5 * noise.normal(size=count), 100 * (x_ND[:, 2] + 3 * noise.normal(size=count))],
        axis=1,
    )
    return features.with_targets(TargetTable(names=("near", "far"), values_NT=values_NT.astype(np.float32)), None)


def changed(features: Features, change) -> Features:
    assert features.values is not None
    values_NT = features.values.values_NT.copy()
    change(values_NT)
    return features.with_targets(TargetTable(names=features.values.names, values_NT=values_NT), None)


def results(train: Features, held_out: Features, test: Features) -> dict[tuple[str, str], ProbeResult]:
    found = PROBE.evaluate(train=train, held_out=held_out, test=test, num_classes=5, seed=0)
    return {(result.setting, result.metric): result for result in found}


def test_r2_and_rmse_are_scikit_learns() -> None:
    train, held_out, test = data(150, 0), data(80, 1), data(200, 2)
    found = results(train, held_out, test)
    whole = train.joined(held_out)
    chosen = float(next(iter(found.values())).chosen["penalty"])
    assert chosen == 0.1
    shift, scale = whole.x_ND.mean(0), whole.x_ND.std(0, correction=0)
    oracle = Ridge(alpha=chosen * len(whole)).fit(((whole.x_ND - shift) / scale).numpy(), whole.values.values_NT)
    predicted = oracle.predict(((test.x_ND - shift) / scale).numpy())
    truth = test.values.values_NT
    assert found["", "r2"].value == pytest.approx(r2_score(truth, predicted), abs=1e-4)
    for t, name in enumerate(("near", "far")):
        assert found[name, "r2"].value == pytest.approx(r2_score(truth[:, t], predicted[:, t]), abs=1e-4)
        error = root_mean_squared_error(truth[:, t], predicted[:, t])
        assert found[name, "rmse"].value == pytest.approx(error, rel=1e-4)
    relative = np.sqrt(np.mean(((truth - predicted) ** 2).mean(0) / truth.var(0)))
    assert found["", "rmse"].value == pytest.approx(relative, rel=1e-4)
    assert found["near", "r2"].value > 0.8 > 0.5 > found["far", "r2"].value > 0
    assert (found["", "r2"].probe, found["", "r2"].num_train_images) == ("regression", 230)


def test_the_interval_is_that_of_resampled_images() -> None:
    train, held_out, test = data(150, 0), data(80, 1), data(200, 2)
    found = results(train, held_out, test)
    fit = PROBE.fit_point(
        train.joined(held_out), found["", "r2"].chosen, _data(train, held_out), held_out_value=None, how=""
    )
    (predicted,) = fit.predictor.predict(test.x_ND).numpy()
    truth, drawn = test.values.values_NT[:, 0], []
    for counts_RN in resamples(200, seed=0):
        for counts_N in counts_RN.astype(int):
            chosen = np.repeat(np.arange(200), counts_N)
            drawn.append(r2_score(truth[chosen], predicted[chosen, 0]))
    assert len(drawn) >= 1000
    assert found["near", "r2"].interval == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))), abs=1e-5)


def _data(train: Features, held_out: Features) -> FitData:
    return FitData(train=train, held_out=held_out, num_classes=5, seed=0)


def test_the_choice_never_sees_the_test_split() -> None:
    train, held_out, test = data(150, 0), data(80, 1), data(200, 2)
    spoilt = changed(test, lambda values_NT: np.random.default_rng(0).shuffle(values_NT))
    honest, other = results(train, held_out, test), results(train, held_out, spoilt)
    assert honest["", "r2"].chosen == other["", "r2"].chosen
    assert honest["", "r2"].held_out_value == other["", "r2"].held_out_value
    assert honest["", "r2"].value > other["", "r2"].value + 0.3


def test_images_with_an_unknown_target_are_left_out() -> None:
    train, held_out, test = data(150, 0), data(80, 1), data(200, 2)

    def forget(values_NT: np.ndarray) -> None:
        values_NT[:10, 1] = np.nan

    found = results(changed(train, forget), held_out, changed(test, forget))
    kept = torch.arange(10, 200)
    expected = results(train.subset(torch.arange(10, 150)), held_out, test.subset(kept))
    assert found["", "r2"].value == pytest.approx(expected["", "r2"].value)
    assert (found["", "r2"].num_train_images, found["", "r2"].num_split_images) == (220, 190)
    with pytest.raises(ValueError, match="every image lacks one of the values"):
        results(changed(train, lambda values_NT: values_NT.fill(np.nan)), held_out, test)


def test_a_constant_target_has_no_r2_and_is_left_out_of_the_mean() -> None:
    train, held_out, test = data(150, 0), data(80, 1), data(200, 2)

    def still(values_NT: np.ndarray) -> None:
        values_NT[:, 1] = 7

    found = results(*(changed(part, still) for part in (train, held_out, test)))
    assert ("far", "r2") not in found
    assert found["far", "rmse"].value == pytest.approx(0, abs=1e-4)
    assert found["", "r2"].value == pytest.approx(found["near", "r2"].value)
    with pytest.raises(ValueError, match="constant over the judged images"):
        results(train, held_out, changed(test, lambda values_NT: values_NT.fill(1)))


def test_a_source_without_numbers_is_reported() -> None:
    with pytest.raises(ValueError, match=r"gives no numbers to predict.*take it out of probes"):
        results(blobs(50, seed=0), blobs(50, seed=1), blobs(50, seed=2))
