"""How far objectives are from the ideal: between raw pixels and the simplex ETF of M(X)."""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch.nn import functional as F

from issl_engine.theory.etf import geometry, simplex_etf
from issl_engine.theory.experiments.base import (
    ExperimentConfig,
    Measured,
    Point,
    Setup,
    by_hand,
    measure,
    objective_label,
    train_encoder,
    with_classes,
)
from issl_engine.theory.experiments.dimension import linear_points
from issl_engine.theory.labelings import binary_labelings
from issl_engine.theory.world import FACTORS, Drawings, World

ETF, PIXELS, UNTRAINED = "ETF of M(X), by hand", "raw pixels", "untrained encoder"
PIXELS_SIDE = 6
"""Raw pixels are averaged down to this many a side."""


class CeilingConfig(ExperimentConfig):
    """Objectives between the ETF of M(X), raw pixels and the untrained encoder, by linear probes."""

    name: Literal["ceiling"]
    """Which experiment this is."""
    dim: Annotated[int, Field(ge=1, le=256)] = 16
    """Width of the representation."""

    def num_encoders(self, setup: Setup) -> int:
        return len(setup.objectives)

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        labelings_LC = binary_labelings(setup.world.num_finest, setup.max_labelings, seed)
        rows = [(ETF, by_hand(world, simplex_etf(setup.world.num_finest)))]
        for objective in setup.objectives:
            encoder = train_encoder(setup, world, objective, dim=self.dim, seed=seed)
            yield None
            rows.append((objective_label(objective), measure(encoder, world)))
        torch.manual_seed(seed)
        untrained = setup.encoder.model_copy(update={"dim": self.dim}).build(image_size=setup.world.image_size)
        rows.append((UNTRAINED, measure(untrained.eval(), world)))
        rows.append((PIXELS, _pixels(world)))
        for series, measured in rows:
            dim = measured.train_Nd.shape[1]
            yield from linear_points(series, dim, measured, labelings_LC, seed)
            found = geometry(measured.test_Md, measured.test_classes_M)
            for metric in ("within", "between_mean", "between_max"):
                value = getattr(found, metric)
                yield Point(series=series, x=dim, metric=f"cosine_{metric}", seed=seed, value=value)


def _pixels(world: World) -> Measured:
    return with_classes(world, FACTORS, _pooled(world.train), _pooled(world.test))


def _pooled(drawings: Drawings) -> torch.Tensor:
    return F.adaptive_avg_pool2d(drawings.images, PIXELS_SIDE).flatten(1)
