"""Which head must match the probe: linear and MLP students, judged by linear and MLP probes."""

from collections.abc import Iterator
from typing import Annotated, Literal

from matplotlib.figure import Figure
from pydantic import Field

from issl_engine.report.palette import INK
from issl_engine.theory.experiments.base import (
    SOLVED,
    Setup,
    WidthsConfig,
    measure,
    objective_label,
    train_encoder,
)
from issl_engine.theory.experiments.invariant_tasks import linear_points, mlp_points
from issl_engine.theory.labelings import binary_labelings, least_worst_error
from issl_engine.theory.plots import draw_break, draw_lines, panels_of
from issl_engine.theory.points import Point, series_of
from issl_engine.theory.verdicts import PERCENT, Claim, differences, values
from issl_engine.theory.world import World


class HeadsConfig(WidthsConfig):
    """Heads of the objective against kinds of probes, over widths of the representation."""

    name: Literal["heads"]
    """Which experiment this is."""
    mlp_hidden_dim: Annotated[int, Field(ge=1)] = 32
    """Hidden units of the MLP probes."""
    mlp_steps: Annotated[int, Field(ge=1)] = 200
    """Steps of the MLP probes."""

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        labelings_LC = binary_labelings(setup.world.num_finest, setup.max_labelings, seed)
        for dim in self.dims:
            for objective in setup.objectives:
                measured = measure(train_encoder(setup, world, objective, dim=dim, seed=seed), world)
                yield None
                series = objective_label(objective)
                yield from linear_points(series, dim, measured, labelings_LC, seed, suffix="_linear")
                yield from mlp_points(
                    series, dim, measured, labelings_LC, seed, hidden_dim=self.mlp_hidden_dim, steps=self.mlp_steps
                )

    def draw(self, setup: Setup, points: list[Point]) -> Figure:
        figure, panels = panels_of(2)
        for axes, probe in zip(panels, ("linear", "mlp"), strict=True):
            draw_lines(axes, points, f"worst_error_{probe}")
            draw_break(axes, setup.world.num_finest)
            axes.set_title(f"{'linear' if probe == 'linear' else 'MLP'} probe", fontsize=9, color=INK)
            axes.set_xlabel("width d of the representation")
            axes.set_ylabel("error on the worst invariant task, % of test images")
            axes.set_xticks(self.dims)
            axes.set_ylim(bottom=-1)
        panels[1].legend(frameon=False, fontsize=7)
        return figure

    def claims(self, setup: Setup, points: list[Point]) -> list[Claim]:
        return [claim for dim in self.dims for claim in self._claims_at(dim, setup, points)]

    def _claims_at(self, dim: int, setup: Setup, points: list[Point]) -> Iterator[Claim]:
        needed = setup.world.num_finest - 1
        heads = {getattr(one, "student_head", None): objective_label(one) for one in setup.objectives}
        linear, mlp, symmetric = heads.get("linear"), heads.get("mlp"), heads.get(None)
        for series in series_of(points):
            yield self._solves_by_mlp(dim, series, points)
            if dim < needed:
                floor = 100 * least_worst_error(setup.world.num_finest, dim)
                found = values(points, (series, dim, "worst_error_linear"))
                yield Claim(
                    sentence=f"{series}, d = {dim} < C - 1: some invariant task is beyond linear probes",
                    quantity=f"worst error of linear probes minus the theory's floor of {floor:g} %, points",
                    values=tuple(value - floor for value in found), above=0,
                )  # fmt: skip
        if linear and mlp and dim >= needed:
            yield self._less(dim, linear, mlp, "linear", points)
        if linear and symmetric and dim >= needed:
            yield self._less(dim, linear, symmetric, "linear", points)
        if linear and mlp:
            yield Claim(
                sentence=f"d = {dim}: MLP probes read either student's representation alike",
                quantity=f"worst error of MLP probes, {linear} minus {mlp}, same seed, points",
                values=differences(points, (linear, dim, "worst_error_mlp"), (mlp, dim, "worst_error_mlp")),
                above=-SOLVED, below=SOLVED,
            )  # fmt: skip

    def _solves_by_mlp(self, dim: int, series: str, points: list[Point]) -> Claim:
        return Claim(
            sentence=f"{series}, d = {dim}: MLP probes solve every invariant task",
            quantity="worst error of MLP probes, %", values=values(points, (series, dim, "worst_error_mlp")),
            limits=PERCENT,
            below=SOLVED,
        )  # fmt: skip

    def _less(self, dim: int, better: str, worse: str, probe: str, points: list[Point]) -> Claim:
        metric = f"worst_error_{probe}"
        return Claim(
            sentence=f"d = {dim}: {probe} probes err less after {better} than after {worse}",
            quantity=f"worst error of {probe} probes, {worse} minus {better}, same seed, points",
            values=differences(points, (worse, dim, metric), (better, dim, metric)), above=0,
        )  # fmt: skip
