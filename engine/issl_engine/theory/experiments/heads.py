"""Which head must match the probe: linear and MLP students, judged by linear and MLP probes."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from issl_engine.theory.experiments.base import (
    ExperimentConfig,
    Point,
    Setup,
    measure,
    objective_label,
    train_encoder,
)
from issl_engine.theory.experiments.dimension import error_points, linear_points
from issl_engine.theory.labelings import binary_labelings, labels_of_images
from issl_engine.theory.mlp_probes import mlp_errors
from issl_engine.theory.world import World


class HeadsConfig(ExperimentConfig):
    """Heads of the objective against kinds of probes, over widths of the representation."""

    name: Literal["heads"]
    """Which experiment this is."""
    dims: Annotated[tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(min_length=1)]
    """Widths d of the representation."""
    mlp_hidden_dim: Annotated[int, Field(ge=1)] = 32
    """Hidden units of the MLP probes."""
    mlp_steps: Annotated[int, Field(ge=1)] = 200
    """Steps of the MLP probes."""

    def num_encoders(self, setup: Setup) -> int:
        return len(self.dims) * len(setup.objectives)

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        labelings_LC = binary_labelings(setup.world.num_finest, setup.max_labelings, seed)
        for dim in self.dims:
            for objective in setup.objectives:
                measured = measure(train_encoder(setup, world, objective, dim=dim, seed=seed), world)
                yield None
                series = objective_label(objective)
                yield from linear_points(series, dim, measured, labelings_LC, seed, suffix="_linear")
                errors_L = 100 * mlp_errors(
                    measured.train_Nd, labels_of_images(labelings_LC, measured.train_classes_N),
                    measured.test_Md, labels_of_images(labelings_LC, measured.test_classes_M),
                    hidden_dim=self.mlp_hidden_dim, steps=self.mlp_steps, seed=seed,
                )  # fmt: skip
                yield from error_points(series, dim, errors_L, seed, suffix="_mlp")
