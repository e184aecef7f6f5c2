"""Multinomial logistic regression as scikit-learn parametrises it, over a path of C."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.class_probe import ClassProbeConfig
from issl_engine.probing.probes.convex_probe import ConvexProbeConfig
from issl_engine.probing.probes.fitting.penalty_path import strengths_as_decays
from issl_engine.probing.probes.fitting.predictor import LinearClassifier
from issl_engine.probing.probes.fitting.softmax_regression import softmax_path
from issl_engine.probing.probes.fitting.standardise import moments
from issl_engine.probing.probes.grid import Point

Positive = Annotated[float, Field(gt=0)]
INVERSE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class LogisticProbeConfig(ClassProbeConfig, ConvexProbeConfig):
    """The linear probe on standardised features with scikit-learn's penalty, over a path of C."""

    name: Literal["logistic"] = "logistic"
    Cs: Annotated[tuple[Positive, ...], Field(min_length=1)] = INVERSE_STRENGTHS
    """Inverse strengths of the penalty, as scikit-learn has them: C x the sum of the cross-entropies + half the
    squared weights is minimised. C is of the sum, so twice as many images with one C are penalised half as much."""

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"C": tuple(sorted(self.Cs))}

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> LinearClassifier:
        path = softmax_path(
            features, moments(features, data.device),
            strengths_as_decays([float(point["C"]) for point in points], len(features)),
            standardise=True, num_classes=data.num_classes, tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )  # fmt: skip
        return LinearClassifier.of_paths([path])
