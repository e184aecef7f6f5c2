"""Multinomial logistic regression by L-BFGS, over a path of regularisation strengths.

Letters: S points of the path, D width, C classes.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from issl_engine.probing.base import FitData, Value
from issl_engine.probing.feature_view import Features
from issl_engine.probing.grid import GridProbeConfig, Point
from issl_engine.probing.lbfgs import minimise_path, standardised_blocks
from issl_engine.probing.predictor import LinearClassifier
from issl_engine.probing.standardise import moments

Positive = Annotated[float, Field(gt=0)]
INVERSE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class LogisticProbeConfig(GridProbeConfig):
    """Softmax regression on features standardised as the fitted images are, by L-BFGS, over a path of C."""

    name: Literal["logistic"] = "logistic"
    Cs: Annotated[tuple[Positive, ...], Field(min_length=1)] = INVERSE_STRENGTHS
    """Inverse strengths of the penalty, as scikit-learn has them: C x the sum of the cross-entropies + half the
    squared weights is minimised. C is of the sum, so twice as many images with one C are penalised half as much."""
    max_iterations: Annotated[int, Field(ge=1)] = 100
    """Iterations of L-BFGS for each C; each starts from the solution of the stronger penalty before."""

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"C": tuple(sorted(self.Cs))}

    def describe(self) -> str:
        return f"L-BFGS of at most {self.max_iterations} iterations"

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> LinearClassifier:
        scale_D, offset_D = moments(features, data.device).standardising
        labels_N = features.labels_N.to(data.device)

        def loss_sum(logits_bC: Tensor, part: slice) -> Tensor:
            return F.cross_entropy(logits_bC, labels_N[part], reduction="sum")

        wanted = [float(point["C"]) for point in points]
        weakest = max(wanted)
        path = [strength for strength in sorted(set(self.Cs)) if strength <= weakest]
        solutions = minimise_path(
            standardised_blocks(features, scale_D, offset_D), loss_sum,
            torch.zeros(data.num_classes, features.width, device=data.device, requires_grad=True),
            torch.zeros(data.num_classes, device=data.device, requires_grad=True),
            Cs=path, num_images=len(features), max_iterations=self.max_iterations,
        )  # fmt: skip
        kept = [solutions[path.index(C)] for C in wanted]
        return LinearClassifier(
            weights_SCD=torch.stack([weight_CD for weight_CD, _ in kept]),
            bias_SC=torch.stack([bias_C for _, bias_C in kept]),
            scale_G1D=scale_D[None, None],
            offset_G1D=offset_D[None, None],
        )
