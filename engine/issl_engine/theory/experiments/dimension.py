"""How wide a representation must be for linear probes: d against the error of invariant tasks."""

from collections.abc import Iterator
from typing import Literal

from matplotlib.figure import Figure

from issl_engine.report.palette import INK
from issl_engine.theory.etf import projected_etf
from issl_engine.theory.experiments.base import (
    SOLVED,
    Setup,
    WidthsConfig,
    by_hand,
    measure,
    objective_label,
    train_encoder,
)
from issl_engine.theory.experiments.invariant_tasks import linear_points
from issl_engine.theory.labelings import binary_labelings, least_mean_error, least_worst_error
from issl_engine.theory.plots import draw_break, draw_lines, panels_of
from issl_engine.theory.points import Point, series_of
from issl_engine.theory.verdicts import PERCENT, Claim, differences, values
from issl_engine.theory.world import World

ETF = "ETF of M(X), projected"


class DimensionConfig(WidthsConfig):
    """Width of the representation against the error of linear probes on invariant tasks."""

    name: Literal["dimension"]
    """Which experiment this is."""

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        labelings_LC = binary_labelings(setup.world.num_finest, setup.max_labelings, seed)
        for dim in self.dims:
            ideal = by_hand(world, projected_etf(setup.world.num_finest, dim, seed), seed=seed)
            yield from linear_points(ETF, dim, ideal, labelings_LC, seed)
            for objective in setup.objectives:
                encoder = train_encoder(setup, world, objective, dim=dim, seed=seed)
                yield None
                yield from linear_points(objective_label(objective), dim, measure(encoder, world), labelings_LC, seed)

    def draw(self, setup: Setup, points: list[Point]) -> Figure:
        classes = setup.world.num_finest
        floors = {"worst_error": least_worst_error, "mean_error": least_mean_error}
        titles = {"worst_error": "worst invariant task", "mean_error": "mean over invariant tasks"}
        figure, panels = panels_of(2)
        for axes, (metric, floor) in zip(panels, floors.items(), strict=True):
            draw_lines(axes, points, metric)
            dims = list(range(1, int(max(point.x for point in points)) + 1))
            axes.step(
                dims, [100 * floor(classes, dim) for dim in dims], where="post", color=INK, lw=1.0, ls=":",
                label="floor (theory)",
            )  # fmt: skip
            draw_break(axes, classes)
            axes.set_title(titles[metric], fontsize=9, color=INK)
            axes.set_xticks(self.dims)
            axes.set_xlabel("width d of the representation")
            axes.set_ylabel("error of the linear probe, % of test images")
            axes.set_ylim(bottom=-1)
        panels[0].legend(frameon=False, fontsize=7)
        return figure

    def claims(self, setup: Setup, points: list[Point]) -> list[Claim]:
        classes = setup.world.num_finest
        below = max((dim for dim in self.dims if dim < classes - 1), default=None)
        enough = min((dim for dim in self.dims if dim >= classes - 1), default=None)
        found = []
        for series in series_of(points):
            if below is not None:
                floor = 100 * least_worst_error(classes, below)
                found.append(
                    Claim(
                        sentence=f"{series}: at d = {below} < C - 1 some invariant task is not linear",
                        quantity=f"worst error at d = {below} minus the theory's floor of {floor:g} %, points",
                        values=tuple(value - floor for value in values(points, (series, below, "worst_error"))),
                        above=0,
                    )
                )
            if enough is not None:
                found.append(
                    Claim(
                        sentence=f"{series}: at d = {enough} >= C - 1 every invariant task is linear",
                        quantity=f"worst error at d = {enough}, %",
                        below=SOLVED,
                        values=values(points, (series, enough, "worst_error")),
                        limits=PERCENT,
                    )
                )
            if below is not None and enough is not None:
                found.append(
                    Claim(
                        sentence=f"{series}: the break is between d = {below} and d = {enough}",
                        quantity=f"worst error at d = {below} minus at d = {enough}, same seed, points",
                        above=0,
                        values=differences(points, (series, below, "worst_error"), (series, enough, "worst_error")),
                    )
                )
        return found
