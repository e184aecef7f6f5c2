"""Least squares on one-hot classes with an L2 penalty, in closed form.

Letters: S penalties, C classes, b images of a block.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.class_probe import ClassProbeConfig
from issl_engine.probing.probes.fitting.predictor import LinearClassifier
from issl_engine.probing.probes.fitting.ridge_path import ridge_path
from issl_engine.probing.probes.grid import Point

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


class RidgeProbeConfig(ClassProbeConfig):
    """Least squares on one-hot classes with an L2 penalty, in closed form: no learning rate, no epochs, one optimum."""

    name: Literal["ridge"] = "ridge"
    penalties: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = PENALTIES
    """Penalties of the grid: each times the squared weights is added to the mean squared error of the standardised
    features (with N images, scikit-learn's alpha / N). All come from one eigendecomposition."""

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"penalty": self.penalties}

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> LinearClassifier:
        def one_hot(part: slice) -> Tensor:
            return F.one_hot(features.labels_N[part].to(data.device), data.num_classes).double()

        penalties = [float(point["penalty"]) for point in points]
        return ridge_path(features, one_hot, penalties, data.device).classifier()
