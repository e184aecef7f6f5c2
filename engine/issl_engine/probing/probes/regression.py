"""Linear regression of numbers that the source gives, in closed form.

Letters: S penalties, T targets, b images of a block.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from issl_engine.probing.features.features import Features
from issl_engine.probing.judging.value_task import ValueTask, value_table
from issl_engine.probing.probes.base import FitData, Value
from issl_engine.probing.probes.fitting.predictor import LinearOutputs
from issl_engine.probing.probes.fitting.ridge_path import ridge_path
from issl_engine.probing.probes.grid import GridProbeConfig, Point
from issl_engine.probing.probes.ridge import PENALTIES


class RegressionProbeConfig(GridProbeConfig):
    """Ridge regression of what else the source knows of an image (positions, sizes, angles): R² and RMSE."""

    name: Literal["regression"] = "regression"
    penalties: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = PENALTIES
    """Penalties of the grid, as ridge has them; one, chosen by the mean R² over targets, serves all."""

    @property
    def task(self) -> ValueTask:
        return ValueTask()

    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {"penalty": self.penalties}

    def fit_points(self, features: Features, points: Sequence[Point], data: FitData) -> LinearOutputs:
        values_NT = torch.from_numpy(value_table(features).values_NT).to(data.device).double()

        def targets(part: slice) -> Tensor:
            return values_NT[part]

        return ridge_path(features, targets, [float(point["penalty"]) for point in points], data.device)
