"""results.csv of an experiment: one line a point and seed."""

import csv
import io
from pathlib import Path
from typing import Any

from issl_engine.environment import device_summary
from issl_engine.theory.points import Point
from issl_engine.theory.schema import TheoryRecipe
from issl_engine.whole_file import write_whole

COLUMNS = (
    "experiment", "series", "x_name", "x", "metric", "unit", "seed", "value", "num_classes", "steps", "batch_size",
    "experiment_seconds", "device", "commit", "date", "command",
)  # fmt: skip


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
            "x_name": recipe.experiment.x_name, "x": f"{point.x:g}",
            "metric": point.metric, "unit": "" if point.metric.startswith("cosine") else "percent",
            "seed": point.seed, "value": round(point.value, 4), "num_classes": recipe.world.num_finest,
            "steps": recipe.pretraining.steps, "batch_size": recipe.pretraining.batch_size,
            "experiment_seconds": round(seconds), "device": device_summary(environment),
            "commit": environment.get("commit"), "date": environment.get("date"),
            "command": environment.get("command"),
        })  # fmt: skip
    write_whole(path, text.getvalue())
