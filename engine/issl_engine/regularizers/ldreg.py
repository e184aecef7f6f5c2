"""LDReg (Huang et al. 2024, arXiv 2401.10474): raise the local intrinsic dimensionality of the representations.

Letters: G global views; N images of all ranks; R = G·N rows; D width of the representation; K neighbours.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.objectives.base import ObjectiveShape
from issl_engine.regularizers.base import Regularizer, RegularizerConfig

EPSILON = 1e-6
"""Least gap between the farthest distance and the mean of the others, as a share of the farthest: LID is at most
1 / EPSILON."""
TINY = 1e-12
"""Distances below this count as this, so that rows with K equal copies have a finite penalty and no gradient."""


class LDRegConfig(RegularizerConfig):
    """Counters dimensional collapse around each representation, which measures over all of them miss."""

    name: Literal["ldreg"] = "ldreg"
    """Which regulariser this is."""
    weight: Annotated[float, Field(gt=0)] = 0.01
    """The penalty is multiplied by this and added to the loss; 0.01 for SimCLR, 0.005 for BYOL and MoCo. The authors
    leave it out in the first 10 of 100 epochs (start_epochs)."""
    num_neighbours: Annotated[int, Field(ge=2)] = 64
    """Nearest neighbours K from which each row's dimensionality is estimated, among the global views of all images; 64
    of 4096 rows were published."""

    def build(self, shape: ObjectiveShape) -> Regularizer:
        rows = shape.num_global_views * shape.global_batch_size
        if rows <= self.num_neighbours:
            raise Mistake(
                f"regularizer ldreg looks at num_neighbours ({self.num_neighbours}) others of each row, and a forward "
                f"pass holds {rows} rows of global views; lower num_neighbours or make training.global_batch_size "
                "larger"
            )
        return LDReg(self.num_neighbours)


class LDReg(Regularizer):
    """−(1/R) Σ_r ln LID_r over the rows of all global views (equation 1 of the paper, the L1 form); in nats.

    LID_r = μ / (w − μ) is the method-of-moments estimate: w the distance to the K-th nearest other row, μ the mean
    distance to the K − 1 nearer ones. The other rows are constants, as in the authors' program. It takes memory for
    2·R² numbers.
    """

    def __init__(self, num_neighbours: int) -> None:
        super().__init__()
        self.num_neighbours = num_neighbours

    def forward(self, rows_GND: Tensor) -> Tensor:
        rows_RD = rows_GND.flatten(0, 1)
        # Through differences: norms and products would lose the small distances, which count here.
        distances_RR = torch.cdist(rows_RD, rows_RD.detach(), compute_mode="donot_use_mm_for_euclid_dist")
        itself_RR = torch.eye(len(rows_RD), dtype=torch.bool, device=rows_RD.device)
        others_RR = distances_RR.masked_fill(itself_RR, torch.inf)
        nearest_RK = others_RR.topk(self.num_neighbours, largest=False).values
        farthest_R, mean_R = nearest_RK[:, -1], nearest_RK[:, :-1].mean(1)
        gap_R = torch.maximum(farthest_R - mean_R, EPSILON * farthest_R)
        return (gap_R.clamp(min=EPSILON * TINY).log() - mean_R.clamp(min=TINY).log()).mean()
