"""How wide a representation must be for linear probes: d against the error of invariant tasks."""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from issl_engine.theory.etf import simplex_etf
from issl_engine.theory.experiments.base import (
    ExperimentConfig,
    Measured,
    Point,
    Setup,
    by_hand,
    measure,
    objective_label,
    train_encoder,
)
from issl_engine.theory.labelings import binary_labelings, labels_of_images
from issl_engine.theory.linear_probes import linear_errors
from issl_engine.theory.world import World

ETF = "ETF of M(X), projected"


class DimensionConfig(ExperimentConfig):
    """Width of the representation against the error of linear probes on invariant tasks."""

    name: Literal["dimension"]
    """Which experiment this is."""
    dims: Annotated[tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(min_length=1)]
    """Widths d of the representation; the theory has the error fall to zero at C - 1."""

    def num_encoders(self, setup: Setup) -> int:
        return len(self.dims) * len(setup.objectives)

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        labelings_LC = binary_labelings(setup.world.num_finest, setup.max_labelings, seed)
        for dim in self.dims:
            ideal = by_hand(world, projected_etf(setup.world.num_finest, dim, seed))
            yield from linear_points(ETF, dim, ideal, labelings_LC, seed)
            for objective in setup.objectives:
                encoder = train_encoder(setup, world, objective, dim=dim, seed=seed)
                yield None
                yield from linear_points(objective_label(objective), dim, measure(encoder, world), labelings_LC, seed)


def projected_etf(num_classes: int, dim: int, seed: int) -> Tensor:
    """The ETF's vectors in ``dim`` random dimensions of their space [C, dim], or all of it and zeros beside."""
    vectors_Cd = simplex_etf(num_classes)
    width = vectors_Cd.shape[1]
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    projected = vectors_Cd @ basis[:, :dim]
    return torch.nn.functional.pad(projected, (0, max(0, dim - width)))


def linear_points(
    series: str, x: float, measured: Measured, labelings_LC: Tensor, seed: int, *, suffix: str = ""
) -> Iterator[Point]:
    """Worst and mean error of the labelings' linear probes, in percent."""
    errors_L = 100 * linear_errors(
        measured.train_Nd, labels_of_images(labelings_LC, measured.train_classes_N),
        measured.test_Md, labels_of_images(labelings_LC, measured.test_classes_M),
    )  # fmt: skip
    yield from error_points(series, x, errors_L, seed, suffix=suffix)


def error_points(series: str, x: float, errors_L: Tensor, seed: int, *, suffix: str = "") -> Iterator[Point]:
    """The largest and the mean of errors in percent."""
    yield Point(series=series, x=x, metric=f"worst_error{suffix}", seed=seed, value=float(errors_L.max()))
    yield Point(series=series, x=x, metric=f"mean_error{suffix}", seed=seed, value=float(errors_L.mean()))
