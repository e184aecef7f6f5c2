"""results.csv of an experiment, one line a point and seed, and means over the seeds."""

import csv
import io
from pathlib import Path
from typing import Any

from issl_engine.environment import device_summary
from issl_engine.report.statistics import Summary, summarise
from issl_engine.theory.experiments.base import Point
from issl_engine.theory.schema import TheoryRecipe
from issl_engine.whole_file import write_whole

COLUMNS = (
    "experiment", "series", "x_name", "x", "metric", "unit", "seed", "value", "num_classes", "steps", "batch_size",
    "experiment_seconds", "device", "commit", "date", "command",
)  # fmt: skip
X_NAMES = {"coarseness": "labelled_images"}
"""What x is, where it is not the width of the representation."""


def write_results(
    path: Path, recipe: TheoryRecipe, points: list[Point], environment: dict[str, Any], seconds: float
) -> None:
    """Writes COLUMNS; ``num_classes`` is of the world, all factors kept."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    for point in points:
        writer.writerow({
            "experiment": recipe.experiment.name, "series": point.series,
            "x_name": X_NAMES.get(recipe.experiment.name, "representation_dim"), "x": f"{point.x:g}",
            "metric": point.metric, "unit": "" if point.metric.startswith("cosine") else "percent",
            "seed": point.seed, "value": round(point.value, 4), "num_classes": recipe.world.num_finest,
            "steps": recipe.pretraining.steps, "batch_size": recipe.pretraining.batch_size,
            "experiment_seconds": round(seconds), "device": device_summary(environment),
            "commit": environment.get("commit"), "date": environment.get("date"),
            "command": environment.get("command"),
        })  # fmt: skip
    write_whole(path, text.getvalue())


def summaries(points: list[Point]) -> dict[tuple[str, float, str], Summary]:
    """(series, x, metric) → mean and 95 % interval over the seeds, in the order of measuring."""
    values: dict[tuple[str, float, str], list[float]] = {}
    for point in points:
        values.setdefault((point.series, point.x, point.metric), []).append(point.value)
    return {key: summarise(found) for key, found in values.items()}
