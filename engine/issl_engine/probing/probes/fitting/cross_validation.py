"""Choice among a grid's points by cross-validation, where there are too few images to hold any out.

Letters: N images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import FitData
from issl_engine.probing.probes.grid import GridProbeConfig, Point, best_of


@dataclass(frozen=True, kw_only=True)
class Choice:
    """``score``: the mean over folds, weighted by their images; None where nothing could be scored. ``how``: words."""

    point: Point
    score: float | None
    how: str


def cross_validated(probe: GridProbeConfig, images: Features, data: FitData, *, folds: int) -> Choice:
    """The point with the best mean score over stratified folds of ``images``, which alone are looked at.

    A class with fewer images than ``folds`` makes the folds fewer; one with a single image leaves nothing to choose
    on, so that the middle of the grid is taken.
    """
    fewest = int(images.labels_N.unique(return_counts=True)[1].min())
    folds = min(folds, fewest)
    if folds < 2:
        how = "the grid's middle, since a class has a single labelled image"
        return Choice(point=probe.middle(), score=None, how=how)
    points = probe.points()
    fold_N = stratified_folds(images.labels_N, folds, data.seed)
    totals = np.zeros(len(points))
    for fold in range(folds):
        fit, score = (images.subset(chosen.nonzero().flatten()) for chosen in (fold_N != fold, fold_N == fold))
        totals += len(score) / len(images) * np.array(probe.scores(fit, score, points, data))
    best = best_of(totals.tolist())
    how = f"chosen by {folds}-fold cross-validation on the labelled images alone"
    return Choice(point=points[best], score=float(totals[best]), how=how)


def stratified_folds(labels_N: Tensor, folds: int, seed: int) -> Tensor:
    """Each image's fold, int64 [n]: a class's images are spread as evenly as can be."""
    fold_N = torch.empty_like(labels_N)
    random = np.random.default_rng(seed)
    for label in labels_N.unique().tolist():
        members = (labels_N == label).nonzero().flatten()
        fold_N[members[torch.from_numpy(random.permutation(len(members)))]] = torch.arange(len(members)) % folds
    return fold_N
