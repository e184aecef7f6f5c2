"""Logistic regression of each attribute that an image has or has not.

Letters: N images, T attributes, K attributes that some images have and some have not, D width, S penalties.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.attribute_task import AttributeTask, attribute_table
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.convex_probe import ConvexProbeConfig
from issl_engine.probing.probes.fitting.likelihoods import Bernoulli
from issl_engine.probing.probes.fitting.penalty_path import Path, solve_path, strengths_as_decays
from issl_engine.probing.probes.fitting.predictor import LinearOutputs
from issl_engine.probing.probes.fitting.standardise import moments
from issl_engine.probing.probes.grid import Point
from issl_engine.probing.probes.logistic import INVERSE_STRENGTHS, Positive


class MultiLabelProbeConfig(ConvexProbeConfig):
    """A logistic regression for each attribute that the source knows of an image: mean average precision."""

    name: Literal["multi_label"] = "multi_label"
    Cs: Annotated[tuple[Positive, ...], Field(min_length=1)] = INVERSE_STRENGTHS
    """Inverse strengths of the penalty, as logistic has them: of each attribute, C x the sum of its losses + half its
    squared weights is minimised. One C, chosen by the mean average precision, serves all."""

    @property
    def task(self) -> AttributeTask:
        return AttributeTask()

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"C": tuple(sorted(self.Cs))}

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> LinearOutputs:
        values_NT = torch.from_numpy(attribute_table(features).values_NT).to(data.device)
        known_NT, has_NT = (~values_NT.isnan()).float(), values_NT.nan_to_num().float()
        having_T, known_T = has_NT.sum(0), known_NT.sum(0)
        varied_T = (having_T > 0) & (having_T < known_T)
        decays = strengths_as_decays([float(point["C"]) for point in points], len(features))
        statistics = moments(features, data.device)
        if not varied_T.any():
            raise Mistake(
                "no attribute is both had and lacked by images that the probe is fitted on, so there is nothing to "
                "learn; fit on more images, or take multi_label out of probes"
            )
        path = solve_path(
            features, statistics, Bernoulli(has_NT[:, varied_T], known_NT[:, varied_T]), decays, standardise=True,
            tolerance=self.tolerance, max_iterations=self.max_iterations,
        )  # fmt: skip
        return LinearOutputs.of_paths([_with_constant(path, varied_T, having_T, known_T)])


def _with_constant(path: Path, varied_T: Tensor, having_T: Tensor, known_T: Tensor) -> Path:
    """The path with the attributes that all or no images have: zero weights, and the log odds with half an image more
    on either side (Haldane 1956), since the optimum is at infinity."""
    if varied_T.all():
        return path
    S, _, D = path.weights_SKD.shape
    weights_STD = path.weights_SKD.new_zeros(S, len(varied_T), D)
    bias_ST = ((having_T + 0.5) / (known_T - having_T + 0.5)).log().expand(S, -1).clone()
    weights_STD[:, varied_T], bias_ST[:, varied_T] = path.weights_SKD, path.bias_SK
    return replace(path, weights_SKD=weights_STD, bias_SK=bias_ST)
