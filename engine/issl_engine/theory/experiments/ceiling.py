"""How far objectives are from the ideal: between raw pixels and the simplex ETF of M(X)."""

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch.nn import functional as F

from issl_engine.objectives.dissl import DISSLConfig
from issl_engine.report.palette import INK, PALETTE
from issl_engine.theory.etf import geometry, simplex_etf
from issl_engine.theory.experiments.base import (
    SOLVED,
    ExperimentConfig,
    Measured,
    Setup,
    by_hand,
    check_trains,
    measure,
    objective_label,
    train_encoder,
    with_classes,
)
from issl_engine.theory.experiments.invariant_tasks import linear_points
from issl_engine.theory.labelings import binary_labelings
from issl_engine.theory.merging import least_signal
from issl_engine.theory.plots import panels_of
from issl_engine.theory.points import Point, series_of, summaries
from issl_engine.theory.verdicts import PERCENT, Claim, differences, values
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

    def check(self, setup: Setup) -> None:
        check_trains(setup)

    def num_encoders(self, setup: Setup) -> int:
        return len(setup.objectives)

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        labelings_LC = binary_labelings(setup.world.num_finest, setup.max_labelings, seed)
        rows = [(ETF, by_hand(world, simplex_etf(setup.world.num_finest), seed=seed))]
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

    def claims(self, setup: Setup, points: list[Point]) -> list[Claim]:
        labels = {objective_label(one): one for one in setup.objectives}
        found = [claim for series in labels for claim in self._claims_of(series, points)]
        of_dissl = [label for label, one in labels.items() if one.name == "dissl"]
        for first, series in itertools.product(of_dissl[:1], of_dissl[1:]):
            found.append(
                Claim(
                    sentence=f"{series}: errs less than {first}",
                    quantity=f"worst error of {first} minus this one's, same seed, points",
                    values=differences(points, self._worst(first), self._worst(series)),
                    above=0,
                )
            )
        return found

    def remarks(self, setup: Setup, points: list[Point]) -> list[str]:
        weights = dict.fromkeys(one.invariance_weight for one in setup.objectives if isinstance(one, DISSLConfig))
        return [
            f"DISSL with beta = {weight:g}: merged classes part only by a feature whose variance between them is more "
            f"than {least_signal(weight):.2f} times that among views of one class"
            for weight in weights
        ]

    def _worst(self, series: str) -> tuple[str, float, str]:
        return series, self.dim, "worst_error"

    def _claims_of(self, series: str, points: list[Point]) -> list[Claim]:
        return [
            Claim(
                sentence=f"{series}: training brings the representation nearer to the ideal",
                quantity="worst error of the untrained encoder minus this one's, same seed, points",
                values=differences(points, self._worst(UNTRAINED), self._worst(series)), above=0,
            ),
            Claim(
                sentence=f"{series}: training reaches the ideal, every invariant task solved",
                quantity="worst error, %", values=values(points, self._worst(series)), below=SOLVED,
                limits=PERCENT,
            ),
        ]  # fmt: skip


def _pixels(world: World) -> Measured:
    return with_classes(world, FACTORS, _pooled(world.train), _pooled(world.test))


def _pooled(drawings: Drawings) -> torch.Tensor:
    return F.adaptive_avg_pool2d(drawings.images, PIXELS_SIDE).flatten(1)
