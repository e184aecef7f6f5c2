"""Which head must match the probe: linear and MLP students, judged by linear and MLP probes."""

from collections.abc import Iterator
from typing import Annotated, Literal

from matplotlib.figure import Figure
from pydantic import Field

from issl_engine.report.palette import INK
from issl_engine.theory.experiments.base import (
    Setup,
    WidthsConfig,
    measure,
    objective_label,
    train_encoder,
)
from issl_engine.theory.experiments.dimension import error_points, linear_points
from issl_engine.theory.labelings import binary_labelings, labels_of_images
from issl_engine.theory.mlp_probes import mlp_errors
from issl_engine.theory.plots import draw_break, draw_lines, panels_of
from issl_engine.theory.points import Point, summaries
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
                errors_L = 100 * mlp_errors(
                    measured.train_Nd, labels_of_images(labelings_LC, measured.train_classes_N),
                    measured.test_Md, labels_of_images(labelings_LC, measured.test_classes_M),
                    hidden_dim=self.mlp_hidden_dim, steps=self.mlp_steps, seed=seed,
                )  # fmt: skip
                yield from error_points(series, dim, errors_L, seed, suffix="_mlp")

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

    def verdict(self, setup: Setup, points: list[Point]) -> list[str]:
        means = {key: found.mean for key, found in summaries(points).items()}
        series = list(dict.fromkeys(name for name, _, _ in means))
        lines = []
        for x in sorted({x for _, x, _ in means}):
            for probe in ("linear", "mlp"):
                metric = f"worst_error_{probe}"
                best = min(series, key=lambda name: means[name, x, metric])
                listed = ", ".join(f"{name} {means[name, x, metric]:.1f} %" for name in series)
                lines.append(f"d = {x:g}, {probe} probe, worst task: {listed}; lowest: {best}")
        return lines
