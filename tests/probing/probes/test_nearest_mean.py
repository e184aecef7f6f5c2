"""Nearest class means against scikit-learn's NearestCentroid."""

import torch
from sklearn.neighbors import NearestCentroid
from torch.nn import functional as F

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.nearest_mean import NearestMeanProbeConfig

from ..conftest import blobs, evaluated, fitted, shuffled_labels, top1


def test_euclidean_means_are_scikit_learns() -> None:
    fit, score = blobs(203, seed=0, noise=3), blobs(400, seed=1, noise=3)
    point = fitted(NearestMeanProbeConfig(), fit, {"distance": "euclidean"})
    oracle = NearestCentroid().fit(fit.x_ND.numpy(), fit.labels_N.numpy())
    assert point.predictor.predict(score.x_ND)[0].tolist() == oracle.predict(score.x_ND.numpy()).tolist()


def test_cosine_means_are_means_of_directions() -> None:
    fit, score = blobs(203, seed=0, noise=3), blobs(400, seed=1, noise=3)
    directions_ND = F.normalize(fit.x_ND.double(), dim=1)
    means_CD = torch.stack([directions_ND[fit.labels_N == label].mean(0) for label in range(5)])
    cosines_NC = F.normalize(score.x_ND.double(), dim=1) @ F.normalize(means_CD, dim=1).T
    point = fitted(NearestMeanProbeConfig(), fit, {"distance": "cosine"})
    (predicted_N,) = point.predictor.predict(score.x_ND)
    assert torch.equal(predicted_N, cosines_NC.argmax(1))
    (longer_N,) = point.predictor.predict(score.x_ND * torch.linspace(0.1, 9, 400)[:, None])
    assert torch.equal(longer_N, predicted_N)


def test_a_class_without_images_is_never_predicted() -> None:
    whole = blobs(100, seed=0)
    fit = whole.subset((whole.labels_N != 3).nonzero().flatten())
    near_zero = Features(x_ND=torch.full((50, whole.width), 1e-3), labels_N=torch.zeros(50, dtype=torch.int64))
    for distance in ("cosine", "euclidean"):
        (predicted_N,) = fitted(NearestMeanProbeConfig(), fit, {"distance": distance}).predictor.predict(near_zero.x_ND)
        assert 3 not in predicted_N.tolist()


def test_the_distance_is_chosen_on_held_out_images() -> None:
    train, held_out, test = (blobs(count, seed=seed, noise=3) for seed, count in enumerate((100, 200, 300)))
    probe = NearestMeanProbeConfig()
    honest, spoilt = (evaluated(probe, train, held_out, split) for split in (test, shuffled_labels(test)))
    assert (honest.chosen, honest.held_out_value) == (spoilt.chosen, spoilt.held_out_value)
    scores = top1(probe, train, held_out, probe.points())
    assert scores[0] != scores[1]
    assert honest.chosen == probe.points()[scores.index(max(scores))]
