"""Few labels: fixed balanced subsets, choices by the labelled images alone, means and intervals over draws."""

import math
import statistics

import pytest
import torch
from pydantic import ValidationError
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.evaluate import run_probes
from issl_engine.probing.judging.splits import split_features
from issl_engine.probing.probes.base import FitData, ProbeResult
from issl_engine.probing.probes.few_labels import FewLabelsProbeConfig
from issl_engine.probing.probes.fitting.cross_validation import cross_validated, stratified_folds
from issl_engine.probing.probes.fitting.label_subsets import share_of_each_class, shots_of_each_class
from issl_engine.probing.probes.knn import KNNProbeConfig
from issl_engine.probing.probes.nearest_mean import NearestMeanProbeConfig
from issl_engine.probing.probes.ridge import RidgeProbeConfig

from ..conftest import NUM_CLASSES, blobs, fit_data, fitted

LABELS = torch.tensor([0] * 100 + [1] * 50 + [2] * 20)[torch.randperm(170, generator=torch.Generator().manual_seed(3))]


def few(**keys) -> FewLabelsProbeConfig:
    return FewLabelsProbeConfig(**({"probe": NearestMeanProbeConfig(), "fractions": (), "shots": ()} | keys))


def judged(probe: FewLabelsProbeConfig, train: Features, test: Features, seed: int = 0) -> list[ProbeResult]:
    parts = split_features(train, test, held_out_fraction=0.1, seed=seed)
    return run_probes([probe], parts, num_classes=NUM_CLASSES, seed=seed)


def test_a_share_takes_its_part_of_each_class_and_shots_their_number() -> None:
    assert LABELS[share_of_each_class(LABELS, 0.1, seed=0, draw=0)].bincount().tolist() == [10, 5, 2]
    assert LABELS[share_of_each_class(LABELS, 0.01, seed=0, draw=0)].bincount().tolist() == [1, 1, 1]
    assert LABELS[shots_of_each_class(LABELS, 7, seed=0, draw=0)].bincount().tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match=r"21-shot probing needs 21 .* class 2 has only 20"):
        shots_of_each_class(LABELS, 21, seed=0, draw=0)


def test_seed_and_draw_alone_decide_and_more_labels_hold_the_fewer() -> None:
    subsets = {(s, d): shots_of_each_class(LABELS, 5, seed=s, draw=d).tolist() for s in (0, 1) for d in (0, 1)}
    assert len({tuple(subset) for subset in subsets.values()}) == 4
    assert subsets[0, 1] == shots_of_each_class(LABELS.clone(), 5, seed=0, draw=1).tolist()
    assert set(subsets[0, 0]) < set(shots_of_each_class(LABELS, 9, seed=0, draw=0).tolist())
    # These numbers must be the same on every machine and for good: published results rest on them.
    assert shots_of_each_class(torch.arange(30) % 3, 2, seed=0, draw=0).tolist() == PINNED


PINNED = [4, 12, 16, 18, 23, 29]


def test_the_subset_is_the_same_however_the_training_split_was_held_out() -> None:
    train = blobs(200, seed=0)
    marked = Features(x_ND=torch.arange(200.0)[:, None].repeat(1, 2), labels_N=train.labels_N)
    taken = []
    for fraction in (0.1, 0.4):
        parts = split_features(marked, marked, held_out_fraction=fraction, seed=3)
        data = FitData(train=parts.train, held_out=parts.held_out, num_classes=NUM_CLASSES, seed=7)
        probe = few(probe=KNNProbeConfig(), shots=(3,), draws=1)
        (draw,) = probe.fit(data).settings["3-shot, knn"]
        taken.append(draw.predictor.train.x_ND[:, 0].int().tolist())
    assert taken[0] == taken[1] == shots_of_each_class(train.labels_N, 3, seed=7, draw=0).tolist()


def test_the_mean_and_its_interval_are_over_draws() -> None:
    train, test = blobs(500, seed=0, noise=2), blobs(200, seed=1, noise=2)
    tenth, shots = judged(few(fractions=(0.1,), shots=(4,), draws=5), train, test)
    assert (tenth.probe, tenth.metric, tenth.split) == ("few_labels", "top1", "test")
    assert (tenth.setting, shots.setting) == ("10 % of labels, nearest_mean", "4-shot, nearest_mean")
    assert (tenth.num_train_images, shots.num_train_images, tenth.num_split_images) == (50, 20, 200)
    for result in (tenth, shots):
        assert len(set(result.draws)) > 1
        assert result.value == pytest.approx(statistics.mean(result.draws))
        half = 2.7764451 * statistics.stdev(result.draws) / math.sqrt(5)  # t of 4 degrees of freedom
        assert result.interval == pytest.approx((result.value - half, result.value + half))
        assert "nearest_mean: distance {cosine, euclidean}" in result.grid
        assert "cross-validation on the labelled images alone; 5 draws" in result.grid
    assert tenth.value > shots.value
    assert tenth.chosen["distance"] in ("cosine", "euclidean") or str(tenth.chosen["distance"]).count(" / ") == 4


def test_each_draw_is_the_probe_on_its_subset() -> None:
    train, test = blobs(100, seed=0, noise=2), blobs(200, seed=1, noise=2)
    (result,) = judged(few(shots=(1,), draws=3), train, test)
    expected = []
    for draw in range(3):
        subset = train.subset(shots_of_each_class(train.labels_N, 1, seed=0, draw=draw))
        point = fitted(NearestMeanProbeConfig(), subset, {"distance": "cosine"})
        (predicted_N,) = point.predictor.predict(test.x_ND)
        expected.append(100 * (predicted_N == test.labels_N).double().mean().item())
    assert result.draws == pytest.approx(expected)
    assert result.held_out_value is None
    assert "the grid's middle, since a class has a single labelled image" in result.grid


def test_a_single_draw_has_the_interval_of_the_judged_images() -> None:
    train, test = blobs(100, seed=0, noise=2), blobs(400, seed=1, noise=2)
    (result,) = judged(few(shots=(5,), draws=1), train, test)
    assert result.interval is not None
    share = result.value / 100
    assert result.interval[1] - result.interval[0] == pytest.approx(
        200 * 1.96 * math.sqrt(share * (1 - share) / 400), rel=0.15
    )


def test_nothing_outside_the_subset_has_a_say() -> None:
    """Images that were not drawn, held out or not, may be anything."""
    train, test = blobs(300, seed=0, noise=2), blobs(100, seed=1)
    probe = few(probe=RidgeProbeConfig(penalties=(1e-3, 1.0)), shots=(4,), draws=2)
    kept = torch.cat([shots_of_each_class(train.labels_N, 4, seed=0, draw=draw) for draw in (0, 1)])
    spoilt_ND = 100 * torch.randn(300, train.width, generator=torch.Generator().manual_seed(0))
    spoilt_ND[kept] = train.x_ND[kept]
    spoilt = Features(x_ND=spoilt_ND, labels_N=train.labels_N)
    (first,), (second,) = judged(probe, train, test), judged(probe, spoilt, test)
    assert (first.draws, first.chosen, first.held_out_value) == (second.draws, second.chosen, second.held_out_value)


def test_cross_validation_chooses_as_scikit_learn_does() -> None:
    images = blobs(60, seed=0, noise=3)
    probe = KNNProbeConfig(ks=(1, 5, 15), temperatures=(1e6,))  # all neighbours count the same
    choice = cross_validated(probe, images, fit_data(images), folds=4)
    unit_ND = F.normalize(images.x_ND.double(), dim=1).numpy()
    search = GridSearchCV(
        KNeighborsClassifier(), {"n_neighbors": [1, 5, 15]}, cv=PredefinedSplit(stratified_folds(images.labels_N, 4, 0))
    ).fit(unit_ND, images.labels_N.numpy())
    assert choice.point["k"] == search.best_params_["n_neighbors"]
    assert choice.score == pytest.approx(100 * search.best_score_, abs=2)  # votes may tie
    assert "4-fold" in choice.how


def test_folds_spread_each_class_evenly_and_are_no_more_than_the_rarest_has() -> None:
    fold_N = stratified_folds(LABELS, 5, seed=0)
    assert [LABELS[fold_N == fold].bincount().tolist() for fold in range(5)] == [[20, 10, 4]] * 5
    scarce = blobs(100, seed=0).subset(torch.tensor([*range(97), 97])[: 5 * 3])
    assert "3-fold" in cross_validated(NearestMeanProbeConfig(), scarce, fit_data(scarce), folds=5).how
    single = scarce.subset(torch.arange(11))
    choice = cross_validated(NearestMeanProbeConfig(), single.subset(torch.arange(5)), fit_data(single), folds=5)
    assert (choice.point, choice.score) == ({"distance": "cosine"}, None)


def test_the_middle_of_a_grid_is_the_lower_of_two() -> None:
    assert KNNProbeConfig(ks=(1, 5, 15, 50), temperatures=(0.1, 0.2, 0.3)).middle() == {"k": 5, "temperature": 0.2}


@pytest.mark.parametrize("bad", [{"fractions": (), "shots": ()}, {"fractions": (1.5,)}, {"shots": (0,)}, {"folds": 1}])
def test_impossible_settings_are_refused(bad: dict) -> None:
    with pytest.raises(ValidationError):
        FewLabelsProbeConfig(**bad)


def test_the_probe_inside_is_named_as_recipes_name_probes() -> None:
    probe = FewLabelsProbeConfig.model_validate({"name": "few_labels", "probe": {"name": "knn", "ks": [3]}})
    assert probe.probe == KNNProbeConfig(ks=(3,))
    for inner in ({"name": "few_labels"}, {"name": "knn", "kss": [3]}):
        with pytest.raises(ValidationError):
            FewLabelsProbeConfig.model_validate({"name": "few_labels", "probe": inner})
