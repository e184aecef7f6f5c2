"""Softmax regression with an L2 penalty, over a path of penalties.

Letters: C classes, K classes with images, D width, S penalties.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.fitting.likelihoods import Softmax
from issl_engine.probing.probes.fitting.penalty_path import Path, solve_path
from issl_engine.probing.probes.fitting.standardise import Moments


def softmax_path(
    features: Features, statistics: Moments, decays: Sequence[float], *, standardise: bool, num_classes: int,
    tolerance: float, max_iterations: int,
) -> Path:  # fmt: skip
    """A class without images is never told: its weights are zero and its bias is minus infinity, as at the optimum."""
    present_K, labels_N = features.labels_N.to(statistics.mean_D.device).unique(return_inverse=True)
    path = solve_path(
        features, statistics, Softmax(labels_N), decays, standardise=standardise, tolerance=tolerance,
        max_iterations=max_iterations,
    )  # fmt: skip
    if len(present_K) == num_classes:
        return path
    S, _, D = path.weights_SKD.shape
    weights_SCD = path.weights_SKD.new_zeros(S, num_classes, D)
    bias_SC = path.bias_SK.new_full((S, num_classes), -torch.inf)
    weights_SCD[:, present_K], bias_SC[:, present_K] = path.weights_SKD, path.bias_SK
    return replace(path, weights_SKD=weights_SCD, bias_SK=bias_SC)
