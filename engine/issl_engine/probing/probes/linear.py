"""The linear probe: softmax regression with an L2 penalty, solved to its optimum over a path of penalties.

Letters: S points of the grid, G ways of normalising features.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.class_probe import ClassProbeConfig
from issl_engine.probing.probes.convex_probe import ConvexProbeConfig
from issl_engine.probing.probes.fitting.predictor import LinearClassifier
from issl_engine.probing.probes.fitting.softmax_regression import softmax_path
from issl_engine.probing.probes.fitting.standardise import moments
from issl_engine.probing.probes.grid import Point

Positive = Annotated[float, Field(gt=0)]
_BY_SGD = "unknown key; linear is solved to its optimum since 0.2 and has no {key}; linear_sgd has"


class LinearProbeConfig(ClassProbeConfig, ConvexProbeConfig):
    """Softmax regression with an L2 penalty on frozen features, solved to its optimum, over a path of penalties."""

    gone_keys: ClassVar[Mapping[str, str]] = {
        **{key: _BY_SGD.format(key=key) for key in ("lrs", "epochs", "batch_size")},
        "batch_norm": "unknown key; linear calls it standardise since 0.2; linear_sgd has batch_norm",
    }
    name: Literal["linear"] = "linear"
    weight_decays: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    """Penalties λ of the grid: mean cross-entropy + λ/2 x the squared weights is minimised, biases free. They do not
    depend on the number of images."""
    standardise: Annotated[tuple[bool, ...], Field(min_length=1)] = (True,)
    """With true, each feature is standardised by its mean and deviation over the images that the probe is fitted on.
    With false, all features are divided by one number, their root mean square, so that one path of penalties serves
    every encoder."""

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"standardise": self.standardise, "weight_decay": tuple(sorted(self.weight_decays))}

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> LinearClassifier:
        statistics = moments(features, data.device)
        kinds = list(dict.fromkeys(bool(point["standardise"]) for point in points))
        return LinearClassifier.of_paths(
            [
                softmax_path(
                    features, statistics,
                    [float(point["weight_decay"]) for point in points if point["standardise"] == kind],
                    standardise=kind, num_classes=data.num_classes, tolerance=self.tolerance,
                    max_iterations=self.max_iterations,
                )
                for kind in kinds
            ]
        )  # fmt: skip
