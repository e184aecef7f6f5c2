"""Predict another view's projection: the loss of BYOL, SEM and SimSiam, and what they log.

Letters: V views, the first G global; B images on this rank; P width of the projection.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from issl_engine.models.heads import l2_normalize
from issl_kernels.collectives import all_reduce_sum, all_reduce_sum_, world_size


def agreement(
    predictions_VBP: Tensor, targets_GBP: Tensor, group: ProcessGroup | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """``mean_cosine``, with gradient, and the metrics of objectives that maximise it: ``cosine`` is its value,
    ``projection_std`` the targets' ``projection_spread``."""
    cosine = mean_cosine(predictions_VBP, targets_GBP, group)
    return cosine, {"cosine": cosine.detach(), "projection_std": projection_spread(targets_GBP, group)}


def mean_cosine(predictions_VBP: Tensor, targets_GBP: Tensor, group: ProcessGroup | None) -> Tensor:
    """Mean over the images of all ranks and the pairs i ≠ j of cos(prediction of view j, target of view i);
    scalar.

    Targets are constants: no gradient flows into them.
    """
    predictions_VBP, targets_GBP = l2_normalize(predictions_VBP), l2_normalize(targets_GBP.detach())
    V, (G, B, _) = len(predictions_VBP), targets_GBP.shape
    # For a fixed image, Σ_{i≠j} cos(p_j, t_i) = p_j · Σ_i t_i, without the own view's product.
    every_pair = (predictions_VBP * targets_GBP.sum(0)).sum()
    same_view = (predictions_VBP[:G] * targets_GBP).sum()
    own_mean = (every_pair - same_view) / (B * (V * G - G))
    return all_reduce_sum(own_mean, group) / world_size(group)


@torch.no_grad()
def projection_spread(projections_GBP: Tensor, group: ProcessGroup | None) -> Tensor:
    """Standard deviation of the L2-normalised projections of all ranks, summed over dimensions in squares: 1
    when they fill the sphere evenly, 0 when they have collapsed to a point (Chen and He 2021, section
    4.1)."""
    rows_RP = l2_normalize(projections_GBP).flatten(0, -2)
    mean_P = all_reduce_sum_(rows_RP.mean(0), group) / world_size(group)
    # The rows have norm one, so their summed variance is 1 − |mean|².
    return (1 - mean_P.square().sum()).clamp(min=0).sqrt()
