"""Penalised likelihoods for a path of penalties, from strong to weak, each from the solution of the one before.

Letters: N images, D width, C or K outputs, S penalties.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.fitting.lbfgs import minimise
from issl_engine.probing.probes.fitting.likelihoods import Likelihood
from issl_engine.probing.probes.fitting.normalised_blocks import normalised_blocks
from issl_engine.probing.probes.fitting.penalised_loss import PenalisedLoss
from issl_engine.probing.probes.fitting.preconditioner import principal_axes
from issl_engine.probing.probes.fitting.standardise import Moments

STRONGEST = 0.1
"""Where a path begins at the latest; standardised features leave little of the weights there."""
LARGEST_RATIO = 10 * (1 + 1e-9)
ON_THE_WAY = 1e-2
"""Gap, in nats, that will do for a penalty that was not asked for."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """The solutions in the order in which their penalties were given, and the features that they are for:
    x * scale + offset."""

    weights_SKD: Tensor
    bias_SK: Tensor
    gaps_S: tuple[float, ...]
    """Nats that each may be above its optimum."""
    scale_D: Tensor
    offset_D: Tensor


def solve_path(
    features: Features, statistics: Moments, likelihood: Likelihood, decays: Sequence[float], *, standardise: bool,
    tolerance: float, max_iterations: int,
) -> Path:  # fmt: skip
    """On the device of ``statistics``, which are the features' own. ``standardise`` false divides all features by one
    number instead, their root mean square; they are centred all the same, which the free biases make up for."""
    scale_D, offset_D = statistics.standardising if standardise else _resizing_about_the_mean(statistics)
    blocks = normalised_blocks(features, scale_D, offset_D)
    axes = principal_axes(blocks, len(features), features.width)
    weight_CD = torch.zeros(len(likelihood.start_C), features.width, dtype=torch.float64, device=scale_D.device)
    bias_C = likelihood.start_C
    found = {}
    for decay in on_the_way(decays):
        loss = PenalisedLoss(blocks, likelihood, decay=decay, num_images=len(features))
        enough = tolerance if decay in decays else max(tolerance, ON_THE_WAY)
        found[decay] = minimise(loss, weight_CD, bias_C, axes, tolerance=enough, max_iterations=max_iterations)
        weight_CD, bias_C = found[decay].weight_CD, found[decay].bias_C
    return Path(
        weights_SKD=torch.stack([found[decay].weight_CD for decay in decays]).float(),
        bias_SK=torch.stack([found[decay].bias_C for decay in decays]).float(),
        gaps_S=tuple(found[decay].gap for decay in decays),
        scale_D=scale_D,
        offset_D=offset_D,
    )


def on_the_way(decays: Sequence[float]) -> list[float]:
    """The penalties, falling, with others between them and before them: no step is more than tenfold. From zero
    weights a weak penalty takes twice as long without them."""
    path = [max(STRONGEST, *decays)]
    for decay in sorted(set(decays), reverse=True):
        while path[-1] / decay > LARGEST_RATIO:
            path.append(path[-1] / 10)
        if decay < path[-1]:
            path.append(decay)
    return path


def _resizing_about_the_mean(statistics: Moments) -> tuple[Tensor, Tensor]:
    scale_D, _ = statistics.resizing
    return scale_D, (-statistics.mean_D * scale_D.double()).float()


def strengths_as_decays(strengths: Sequence[float], num_images: int) -> list[float]:
    """scikit-learn's C, of the sum of losses against half the squared weights, as λ of their mean."""
    return [1 / (strength * num_images) for strength in strengths]
