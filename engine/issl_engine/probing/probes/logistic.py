"""Multinomial logistic regression by L-BFGS, over a path of regularisation strengths.

Letters: C classes, N images, b images of a block.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.fitting.lbfgs import fit_path
from issl_engine.probing.probes.fitting.predictor import LinearClassifier
from issl_engine.probing.probes.grid import GridProbeConfig, Point

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
        labels_N = features.labels_N.to(data.device)

        def loss_sum(logits_bC: Tensor, part: slice) -> Tensor:
            return F.cross_entropy(logits_bC, labels_N[part], reduction="sum")

        return fit_path(
            features, loss_sum, num_outputs=data.num_classes, wanted=[float(point["C"]) for point in points],
            Cs=self.Cs, max_iterations=self.max_iterations, device=data.device,
        ).classifier()  # fmt: skip
