"""Runs an experiment over its seeds and writes what it measured."""

import csv
import io
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from issl_engine.environment import collect_environment, device_summary
from issl_engine.mistakes import mistakes_from
from issl_engine.report.palette import INK
from issl_engine.theory.plots import render
from issl_engine.theory.points import Point
from issl_engine.theory.schema import TheoryRecipe
from issl_engine.theory.world import draw_world
from issl_engine.whole_file import write_whole
from issl_kernels.path import check_path_runs_on

_log = logging.getLogger("issl_engine")

COLUMNS = (
    "experiment", "series", "x_name", "x", "metric", "unit", "seed", "value", "num_classes", "steps", "batch_size",
    "experiment_seconds", "device", "commit", "date", "command",
)  # fmt: skip
"""Columns of results.csv."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All points of an experiment, and the files that hold them."""

    points: list[Point]
    seconds: float
    files: tuple[Path, ...]


def run_experiment(
    recipe: TheoryRecipe, text: str, out: Path, *, command: str, on_encoder: Callable[[], None] = lambda: None
) -> Outcome:
    """Trains and measures, seed after seed, and writes results.csv, plot.svg, plot.png and the file itself to ``out``.

    ``on_encoder`` is called after each trained encoder. Raises Mistake where a loss becomes NaN, OSError where
    ``out`` cannot be written.
    """
    with mistakes_from(ValueError):  # ISSL_KERNELS
        check_path_runs_on(torch.device("cpu"))
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "recipe.yaml", text)
    began, points, seconds = time.perf_counter(), list[Point](), 0.0
    environment = collect_environment() | {"command": command}
    setup = recipe.setup
    for seed in recipe.seeds:
        world = draw_world(recipe.world, seed)
        for point in recipe.experiment.points(setup, world, seed):
            if point is None:
                on_encoder()
            else:
                points.append(point)
        seconds = time.perf_counter() - began
        _write(out, recipe, points, environment, seconds)  # a run that is broken off keeps its whole seeds
        _log.info("%s: seed %d is done after %.0f s", recipe.name, seed, seconds)
    files = tuple(out / name for name in ("results.csv", "plot.svg", "plot.png"))
    return Outcome(points=points, seconds=seconds, files=files)


def _write(out: Path, recipe: TheoryRecipe, points: list[Point], environment: dict[str, Any], seconds: float) -> None:
    _write_results(out / "results.csv", recipe, points, environment, seconds)
    figure = recipe.experiment.draw(recipe.setup, points)
    figure.suptitle(f"{recipe.name}: {_over_seeds(len({point.seed for point in points}))}", fontsize=9, color=INK)
    svg, png = render(figure)
    write_whole(out / "plot.svg", svg)
    write_whole(out / "plot.png", png)


def _write_results(
    path: Path, recipe: TheoryRecipe, points: list[Point], environment: dict[str, Any], seconds: float
) -> None:
    """Writes COLUMNS, one line per point and seed; ``num_classes`` is of the world, all factors kept."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    for point in points:
        writer.writerow({
            "experiment": recipe.experiment.name, "series": point.series,
            "x_name": recipe.experiment.x_name, "x": f"{point.x:g}",
            "metric": point.metric, "unit": "" if point.metric.startswith("cosine") else "percent",
            "seed": point.seed, "value": round(point.value, 4), "num_classes": recipe.world.num_finest,
            "steps": recipe.pretraining.steps, "batch_size": recipe.pretraining.batch_size,
            "experiment_seconds": round(seconds), "device": device_summary(environment),
            "commit": environment.get("commit"), "date": environment.get("date"),
            "command": environment.get("command"),
        })  # fmt: skip
    write_whole(path, text.getvalue())


def _over_seeds(count: int) -> str:
    return f"mean and 95 % interval over {count} seeds" if count > 1 else "one seed, so no interval"
