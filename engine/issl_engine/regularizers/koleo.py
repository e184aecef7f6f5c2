"""KoLeo (Sablayrolles et al. 2019, arXiv 1806.03198; in DINOv2, Oquab et al. 2023): no row close to another.

Letters: G global views; N images of all ranks; D width of the representation.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from issl_engine.models.heads import l2_normalize
from issl_engine.objectives.base import ObjectiveShape
from issl_engine.regularizers.base import Regularizer, RegularizerConfig

EPSILON = 1e-8
"""Distances well below this count as this, as in DINOv2; equal rows then have a finite penalty and no gradient."""


class KoLeoConfig(RegularizerConfig):
    """Spreads representations on the sphere: the Kozachenko-Leonenko estimate of their entropy, negative."""

    name: Literal["koleo"] = "koleo"
    """Which regulariser this is."""
    weight: Annotated[float, Field(gt=0)] = 0.1
    """The penalty is multiplied by this and added to the loss; 0.1 in DINOv2."""

    def build(self, shape: ObjectiveShape) -> Regularizer:
        shape.check_other_images(self.name, "regularizer")
        return KoLeo()


class KoLeo(Regularizer):
    """−Σ_g (1/N) Σ_n ln min_{m≠n} ‖u_gn − u_gm‖, with u the L2-normalised representations; in nats.

    The neighbour is another image's row of the same global view g, and gradients flow to both ends. It takes memory for
    N² numbers.
    """

    def forward(self, rows_GND: Tensor) -> Tensor:
        unit_GND = l2_normalize(rows_GND)
        return torch.stack([_negative_entropy(unit_ND) for unit_ND in unit_GND]).sum()


def _negative_entropy(unit_ND: Tensor) -> Tensor:
    with torch.no_grad():
        cosines_NN = unit_ND @ unit_ND.T
        nearest_N = cosines_NN.fill_diagonal_(-torch.inf).argmax(1)
    squares_N = (unit_ND - unit_ND[nearest_N]).square().sum(1)
    return -(squares_N + EPSILON**2).log().mean() / 2
