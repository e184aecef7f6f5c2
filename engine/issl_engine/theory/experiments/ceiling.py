"""How far objectives are from the ideal: between raw pixels and the simplex ETF of M(X)."""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch.nn import functional as F

from issl_engine.report.palette import INK, PALETTE
from issl_engine.theory.etf import geometry, simplex_etf
from issl_engine.theory.experiments.base import (
    ExperimentConfig,
    Measured,
    Setup,
    by_hand,
    measure,
    objective_label,
    train_encoder,
    with_classes,
)
from issl_engine.theory.experiments.dimension import linear_points
from issl_engine.theory.labelings import binary_labelings
from issl_engine.theory.plots import panels_of
from issl_engine.theory.points import Point, series_of, summaries
from issl_engine.theory.world import FACTORS, Drawings, World

ETF, PIXELS, UNTRAINED = "ETF of M(X), by hand", "raw pixels", "untrained encoder"
PIXELS_SIDE = 6
"""Raw pixels are averaged down to this many per side."""


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

    def draw(self, setup: Setup, points: list[Point]) -> Figure:
        figure, panels = panels_of(2)
        names = series_of(points)
        found = {(series, metric): summary for (series, _, metric), summary in summaries(points).items()}
        titles = {"worst_error": "worst invariant task", "mean_error": "mean over invariant tasks"}
        for axes, (metric, title) in zip(panels, titles.items(), strict=True):
            for place, name in enumerate(reversed(names)):
                summary = found[name, metric]
                colour = PALETTE[names.index(name) % len(PALETTE)]
                axes.barh(
                    place, summary.mean, height=0.6, color=colour, alpha=0.85, xerr=summary.half_width,
                    error_kw={"ecolor": INK, "capsize": 3, "lw": 1.2},
                )  # fmt: skip
                end = summary.mean + (summary.half_width or 0.0)
                axes.annotate(
                    str(summary),
                    (max(end, 0), place),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                )
            axes.set_yticks(range(len(names)), [*reversed(names)] if axes is panels[0] else [""] * len(names))
            axes.set_title(title, fontsize=9, color=INK)
            axes.set_xlabel("error of the linear probe, % of test images")
            axes.margins(x=0.25)
            axes.set_xlim(left=0)
        return figure

    def verdict(self, setup: Setup, points: list[Point]) -> list[str]:
        classes = setup.world.num_finest
        cosine = float((simplex_etf(classes)[0] * simplex_etf(classes)[1]).sum())
        means = {(series, metric): found.mean for (series, _, metric), found in summaries(points).items()}
        lines = []
        for series in dict.fromkeys(series for series, _ in means):
            within, mean, most = (means[series, f"cosine_{kind}"] for kind in ("within", "between_mean", "between_max"))
            lines.append(
                f"{series}: cosine of two images of a class {within:.3f} (theory 1), of two classes {mean:.3f} on "
                f"average and {most:.3f} at most (theory {cosine:.3f})"
            )
        return lines


def _pixels(world: World) -> Measured:
    return with_classes(world, FACTORS, _pooled(world.train), _pooled(world.test))


def _pooled(drawings: Drawings) -> torch.Tensor:
    return F.adaptive_avg_pool2d(drawings.images, PIXELS_SIDE).flatten(1)
