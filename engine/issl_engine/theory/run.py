"""Runs an experiment over its seeds, and writes what it measured and what that says of the theory's claims."""

import csv
import io
import logging
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from issl_engine.environment import collect_environment, device_summary
from issl_engine.mistakes import mistakes_from
from issl_engine.report.palette import INK
from issl_engine.theory.plots import render
from issl_engine.theory.points import Point, unit_of
from issl_engine.theory.schema import TheoryRecipe
from issl_engine.theory.seeds import SeedResult, measured_seeds
from issl_engine.theory.verdicts import Verdict, judge, short
from issl_engine.whole_file import write_whole
from issl_kernels.path import check_path_runs_on

_log = logging.getLogger("issl_engine")

COLUMNS = (
    "experiment", "series", "x_name", "x", "metric", "unit", "seed", "value", "low", "high", "verdict", "rule",
    "num_classes", "steps", "batch_size", "experiment_seconds", "cpu_seconds", "device", "commit", "date", "command",
)  # fmt: skip
"""Columns of results.csv. A line with a verdict is a claim: ``series`` its sentence, ``metric`` the quantity, ``value``
the mean over seeds, ``low`` and ``high`` the ends of its 95 % interval, ``rule`` what supports it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All points of an experiment, the claims that they decide, and the files that hold both."""

    points: list[Point]
    verdicts: list[Verdict]
    seconds: float
    cpu_seconds: float
    files: tuple[Path, ...]


def run_experiment(
    recipe: TheoryRecipe, text: str, out: Path, *, command: str, jobs: int = 1,
    on_encoder: Callable[[], None] = lambda: None,
) -> Outcome:  # fmt: skip
    """Trains and measures, seed after seed, and writes results.csv, plot.svg, plot.png and the file itself to ``out``.

    Finished seeds are kept in ``out``/seeds, and not measured again by the same code with the same settings. ``jobs``
    seeds are measured at a time. ``on_encoder`` is called after each trained encoder. Raises Mistake where a loss
    becomes NaN or a probe does not converge, OSError where ``out`` cannot be written.
    """
    with mistakes_from(ValueError):  # ISSL_KERNELS
        check_path_runs_on(torch.device("cpu"))
    (out / "seeds").mkdir(parents=True, exist_ok=True)
    write_whole(out / "recipe.yaml", text)
    environment = collect_environment() | {"command": command}
    version = f"{environment['issl_engine']} {environment['commit']}"
    done: dict[int, SeedResult] = {}
    outcome = None
    for result in measured_seeds(recipe, out / "seeds", version=version, jobs=jobs, on_encoder=on_encoder):
        done[result.seed] = result
        # A run that is broken off keeps its whole seeds.
        outcome = _write(out, recipe, [done[seed] for seed in recipe.seeds if seed in done], environment)
        _log.info("%s: seed %d took %.0f s", recipe.name, result.seed, result.seconds)
    assert outcome is not None  # a recipe has a seed
    return outcome


def _write(out: Path, recipe: TheoryRecipe, results: list[SeedResult], environment: dict[str, Any]) -> Outcome:
    points = [point for result in results for point in result.points]
    verdicts = [judge(claim) for claim in recipe.experiment.claims(recipe.setup, points) if claim.values]
    outcome = Outcome(
        points=points, verdicts=verdicts, seconds=sum(result.seconds for result in results),
        cpu_seconds=sum(result.cpu_seconds for result in results),
        files=tuple(out / name for name in ("results.csv", "plot.svg", "plot.png")),
    )  # fmt: skip
    write_whole(out / "results.csv", _table(recipe, outcome, environment))
    figure = recipe.experiment.draw(recipe.setup, points)
    figure.suptitle(f"{recipe.name}: {_over_seeds(len(results))}", fontsize=9, color=INK)
    width, height = figure.get_size_inches()
    lines = _caption(verdicts, letters=int(width * 21))
    figure.set_size_inches(width, height + 0.125 * (len(lines) + 1))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=6.5, color=INK)
    svg, png = render(figure)
    write_whole(out / "plot.svg", svg)
    write_whole(out / "plot.png", png)
    return outcome


def _caption(verdicts: list[Verdict], *, letters: int) -> list[str]:
    """A line per claim: its verdict, its sentence and the interval that decides."""
    lines = []
    for one in verdicts:
        interval = (
            "" if one.low is None or one.high is None else f" ({short(one.mean)} [{short(one.low)}, {short(one.high)}])"
        )
        lines += textwrap.wrap(f"{one.decision}: {one.claim.sentence}{interval}", letters, subsequent_indent="    ")
    return lines


def _table(recipe: TheoryRecipe, outcome: Outcome, environment: dict[str, Any]) -> str:
    """COLUMNS, one line per point and seed, then one per claim; ``num_classes`` is of the world, all factors kept."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    shared = {
        "experiment": recipe.experiment.name, "num_classes": recipe.world.num_finest,
        "steps": recipe.pretraining.steps if recipe.objectives else 0,
        "batch_size": recipe.pretraining.batch_size if recipe.objectives else 0,
        "experiment_seconds": round(outcome.seconds), "cpu_seconds": round(outcome.cpu_seconds),
        "device": device_summary(environment), "commit": environment.get("commit"), "date": environment.get("date"),
        "command": environment.get("command"),
    }  # fmt: skip
    for point in outcome.points:
        writer.writerow({
            "series": point.series, "x_name": recipe.experiment.x_name, "x": f"{point.x:g}", "metric": point.metric,
            "unit": unit_of(point.metric), "seed": point.seed, "value": _number(point.value), **shared,
        })  # fmt: skip
    for one in outcome.verdicts:
        ends = {} if one.low is None or one.high is None else {"low": _number(one.low), "high": _number(one.high)}
        writer.writerow({
            "series": one.claim.sentence, "metric": one.claim.quantity, "value": _number(one.mean),
            "verdict": one.decision, "rule": one.rule, **ends, **shared,
        })  # fmt: skip
    return text.getvalue()


def _number(value: float) -> str:
    """Four places behind the point, or three digits of what is smaller than that shows."""
    return f"{value:.3g}" if 0 < abs(value) < 1e-3 and math.isfinite(value) else f"{round(value, 4):g}"


def _over_seeds(count: int) -> str:
    return f"mean and 95 % interval over {count} seeds" if count > 1 else "one seed, so no interval"
