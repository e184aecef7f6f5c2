"""Logistic regression of each attribute that an image has or has not.

Letters: N images, T attributes, b images of a block.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.attribute_task import AttributeTask, attribute_table
from issl_engine.probing.judging.task import Task
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.fitting.lbfgs import fit_path
from issl_engine.probing.probes.fitting.predictor import LinearOutputs
from issl_engine.probing.probes.grid import GridProbeConfig, Point
from issl_engine.probing.probes.logistic import INVERSE_STRENGTHS, Positive


class MultiLabelProbeConfig(GridProbeConfig):
    """A logistic regression for each attribute that the source knows of an image: mean average precision."""

    task: ClassVar[Task] = AttributeTask()
    name: Literal["multi_label"] = "multi_label"
    Cs: Annotated[tuple[Positive, ...], Field(min_length=1)] = INVERSE_STRENGTHS
    """Inverse strengths of the penalty, as logistic has them: of each attribute, C x the sum of its losses + half its
    squared weights is minimised. One C, chosen by the mean average precision, serves all."""
    max_iterations: Annotated[int, Field(ge=1)] = 100
    """Iterations of L-BFGS for each C; each starts from the solution of the stronger penalty before."""

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"C": tuple(sorted(self.Cs))}

    def describe(self) -> str:
        return f"L-BFGS of at most {self.max_iterations} iterations"

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> LinearOutputs:
        table = attribute_table(features)
        values_NT = torch.from_numpy(table.values_NT).to(data.device)
        known_NT, has_NT = ~values_NT.isnan(), values_NT.nan_to_num()

        def loss_sum(outputs_bT: Tensor, part: slice) -> Tensor:
            losses_bT = F.binary_cross_entropy_with_logits(outputs_bT, has_NT[part], reduction="none")
            return (losses_bT * known_NT[part]).sum()

        return fit_path(
            features, loss_sum, num_outputs=len(table.names), wanted=[float(point["C"]) for point in points],
            Cs=self.Cs, max_iterations=self.max_iterations, device=data.device,
        )  # fmt: skip
