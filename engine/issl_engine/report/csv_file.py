"""results.csv: one line for each arm, seed and probe."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from issl_engine.environment import device_summary
from issl_engine.report.run_folder import Run
from issl_engine.whole_file import write_whole

COLUMNS = (
    "recipe", "arm", "objective", "seed", "probe", "metric", "value", "split", "held_out_value", "chosen", "grid",
    "preprocessing", "num_train_images", "num_split_images", "epochs", "final_loss", "images_per_second", "seconds",
    "device", "commit", "date", "command",
)  # fmt: skip


def rows(run: Run) -> list[dict[str, Any]]:
    """One dict with COLUMNS' keys a line."""
    environment = run.environment
    return [
        {
            "recipe": run.recipe,
            "arm": row.name,
            "objective": row.objective or "",
            "seed": seed.seed,
            "probe": result.probe,
            "metric": result.metric,
            "value": round(result.value, 4),
            "split": result.split,
            "held_out_value": None if result.held_out_value is None else round(result.held_out_value, 4),
            "chosen": json.dumps(result.chosen),
            "grid": result.grid,
            "preprocessing": result.preprocessing,
            "num_train_images": result.num_train_images,
            "num_split_images": result.num_split_images,
            "epochs": seed.last("epoch"),
            "final_loss": seed.last("loss"),
            "images_per_second": seed.last("images_per_second"),
            "seconds": seed.last("seconds"),
            "device": device_summary(environment),
            "commit": environment.get("commit"),
            "date": environment.get("date"),
            "command": environment.get("command"),
        }
        for row in run.rows
        for seed in row.seeds
        for result in seed.probes
    ]


def write_csv(path: Path, runs: list[Run]) -> None:
    """All runs' lines under one header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS)
    writer.writeheader()
    for run in runs:
        writer.writerows(rows(run))
    write_whole(path, text.getvalue())
