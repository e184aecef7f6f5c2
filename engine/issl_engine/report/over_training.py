"""Accuracy over training: the first probe, fitted anew on each checkpoint of the way, as curve, table and CSV."""

import csv
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from issl_engine.layout import OVER_TRAINING, UNTRAINED
from issl_engine.probing.judging.results import results_from_json
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.report.columns import Column, column_of
from issl_engine.report.read_json import ReportError, read_json
from issl_engine.report.statistics import Summary, summarise
from issl_engine.whole_file import write_whole

if TYPE_CHECKING:
    from issl_engine.report.run_folder import ArmRuns, Run, SeedRun

_log = logging.getLogger("issl_engine")

CSV_COLUMNS = (
    "recipe", "run", "arm", "objective", "seed", "epoch", "step", "probe", "protocol", "network", "setting", "metric",
    "value", "interval_low", "interval_high", "split", "num_split_images", "commit", "date", "command",
)  # fmt: skip
SAME_EPOCH = 6
"""Digits in which epochs of two seeds agree."""


@dataclass(frozen=True, kw_only=True)
class ProbedCheckpoint:
    """``results`` of the first probe on the checkpoint after ``step`` steps; one probe may give several."""

    step: int
    epoch: float
    results: list[ProbeResult]


def read_over_training(arm_seed: Path) -> list[ProbedCheckpoint]:
    """Of one seed's folder, in the order of steps. Raises ReportError for a damaged file."""
    found = []
    for path in sorted((arm_seed / OVER_TRAINING).glob("step_*.json")):
        content = read_json(path)
        try:
            found.append(
                ProbedCheckpoint(
                    step=int(content["step"]), epoch=float(content["epoch"]),
                    results=results_from_json(content["results"]),
                )
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            raise ReportError(f"{path}: the file is damaged; run the recipe again to write it anew") from None
    return found


def curve_of(seed: "SeedRun", column: Column) -> dict[float, ProbeResult]:
    """Epoch → this column's result: the untrained encoder at 0, the checkpoints of the way, and the last one. Empty
    where no checkpoint of the way was probed."""
    if not seed.over_training:
        return {}
    untrained = seed.controls.get(UNTRAINED)
    points = [(0.0, untrained.probes, column.of_control)] if untrained else []
    points += [(one.epoch, one.results, column) for one in seed.over_training]
    last = seed.last("epoch")
    if last is not None:
        points.append((last, seed.probes, column))
    found = {}
    for epoch, results, held in points:
        result = next((one for one in results if held.holds(one)), None)
        if result is not None:
            found[round(epoch, SAME_EPOCH)] = result
    return found


def column_over_training(run: "Run") -> Column | None:
    """The first column that checkpoints of the way were probed for; None where none was."""
    for row in run.arms:
        for seed in row.seeds:
            for one in seed.over_training:
                if one.results:
                    return column_of(one.results[0])
    return None


def mean_curve(row: "ArmRuns", column: Column) -> list[tuple[float, Summary]]:
    """(Epoch, mean over the seeds that were probed there), by epoch."""
    values: dict[float, list[float]] = {}
    for seed in row.seeds:
        for epoch, result in curve_of(seed, column).items():
            values.setdefault(epoch, []).append(result.value)
    return [(epoch, summarise(values[epoch], column.limits)) for epoch in sorted(values)]


def lines_over_training(run: "Run") -> list[str]:
    """A line an arm: epochs and means."""
    column = column_over_training(run)
    if column is None:
        return []
    lines = [f"over training, {column.title} by epochs (mean over seeds):"]
    for row in run.arms:
        points = [f"{epoch:.3g}: {score.text(column.digits)}" for epoch, score in mean_curve(row, column)]
        if points:
            lines.append(f"  {row.name}  " + "  ".join(points))
    return lines


def write_over_training(path: Path, run: "Run") -> None:
    """A line for each arm, seed and probed checkpoint; writes no file where none was probed, and removes an old one."""
    if column_over_training(run) is None:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=CSV_COLUMNS)
    writer.writeheader()
    environments = {member.folder: member.environment for member in run.each}
    for row in run.arms:
        for seed in row.seeds:
            for line in _lines(run, row, seed):
                made = environments.get(row.folder, {})
                writer.writerow(line | {key: made.get(key) for key in ("commit", "date", "command")})
    write_whole(path, text.getvalue())


def _lines(run: "Run", row: "ArmRuns", seed: "SeedRun") -> list[dict[str, Any]]:
    columns = dict.fromkeys(column_of(result) for one in seed.over_training for result in one.results)
    steps = {round(one.epoch, SAME_EPOCH): one.step for one in seed.over_training} | {0.0: 0}
    lines = []
    for column in columns:
        for epoch, result in curve_of(seed, column).items():
            low, high = result.interval or (None, None)
            step = steps.get(epoch, seed.last("step"))
            lines.append(
                {
                    "recipe": run.recipe,
                    "run": row.run,
                    "arm": row.name,
                    "objective": row.objective or "",
                    "seed": seed.seed,
                    "epoch": epoch,
                    "step": None if step is None else int(step),
                    "probe": result.probe,
                    "protocol": result.protocol,
                    "network": column.network,
                    "setting": result.setting,
                    "metric": result.metric,
                    "value": round(result.value, 4),
                    "interval_low": None if low is None else round(low, 4),
                    "interval_high": None if high is None else round(high, 4),
                    "split": result.split,
                    "num_split_images": result.num_split_images,
                }
            )
    return lines
