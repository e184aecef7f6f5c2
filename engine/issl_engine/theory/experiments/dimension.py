"""How wide a representation must be for linear probes: d against the error of invariant tasks."""

from collections.abc import Iterator
from typing import Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor

from issl_engine.report.palette import INK
from issl_engine.theory.etf import simplex_etf
from issl_engine.theory.experiments.base import (
    Measured,
    Setup,
    WidthsConfig,
    by_hand,
    measure,
    objective_label,
    train_encoder,
)
from issl_engine.theory.labelings import binary_labelings, labels_of_images, least_mean_error, least_worst_error
from issl_engine.theory.linear_probes import linear_errors
from issl_engine.theory.plots import draw_break, draw_lines, panels_of
from issl_engine.theory.points import Point, summaries
from issl_engine.theory.world import World

ETF = "ETF of M(X), projected"


class DimensionConfig(WidthsConfig):
    """Width of the representation against the error of linear probes on invariant tasks."""

    name: Literal["dimension"]
    """Which experiment this is."""

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        labelings_LC = binary_labelings(setup.world.num_finest, setup.max_labelings, seed)
        for dim in self.dims:
            ideal = by_hand(world, projected_etf(setup.world.num_finest, dim, seed))
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

    def verdict(self, setup: Setup, points: list[Point]) -> list[str]:
        needed = setup.world.num_finest - 1
        every = summaries(points).items()
        means = {(series, x): found.mean for (series, x, metric), found in every if metric == "worst_error"}
        lines = []
        for series in dict.fromkeys(series for series, _ in means):
            below = [(x, mean) for (name, x), mean in means.items() if name == series and x < needed]
            above = [(x, mean) for (name, x), mean in means.items() if name == series and x >= needed]
            parts = []
            if below:
                x, mean = max(below)
                floor = 100 * least_worst_error(setup.world.num_finest, int(x))
                parts.append(f"{mean:.1f} % at d = {x:g} (floor by theory {floor:.1f} %)")
            if above:
                x, mean = min(above)
                parts.append(f"{mean:.1f} % at d = {x:g} (theory 0 % from d = C - 1 = {needed} on)")
            lines.append(f"{series}: worst invariant task {', '.join(parts)}")
        return lines


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
