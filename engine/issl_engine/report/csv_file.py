"""results.csv: one line for each arm, seed and probe."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from issl_engine.environment import device_summary
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.report.columns import column_of
from issl_engine.report.run_folder import ArmRuns, Run, SeedRun
from issl_engine.whole_file import write_whole

COLUMNS = (
    "recipe", "run", "arm", "objective", "seed", "probe", "protocol", "network", "setting", "metric", "value",
    "interval_low", "interval_high", "over_untrained", "draws", "split", "held_out_value", "chosen", "grid",
    "optimality_gap", "preprocessing", "num_train_images", "num_split_images", "epochs", "final_loss",
    "images_per_second", "seconds", "device", "commit", "date", "command",
)  # fmt: skip


def rows(run: Run) -> list[dict[str, Any]]:
    """One dict with COLUMNS' keys a line."""
    environments = {member.folder: member.environment for member in run.each}
    return [
        _line(run, row, seed, result, environments.get(row.folder, {}))
        for row in run.rows
        for seed in row.seeds
        for result in seed.probes
    ]


def _line(run: Run, row: ArmRuns, seed: SeedRun, result: ProbeResult, environment: dict[str, Any]) -> dict[str, Any]:
    low, high = result.interval or (None, None)
    gain = seed.over_untrained(column_of(result))
    return {
        "recipe": run.recipe,
        "run": row.run,
        "arm": row.name,
        "objective": row.objective or "",
        "seed": seed.seed,
        "probe": result.probe,
        "protocol": result.protocol,
        "network": result.network,
        "setting": result.setting,
        "metric": result.metric,
        "value": round(result.value, 4),
        "interval_low": None if low is None else round(low, 4),
        "interval_high": None if high is None else round(high, 4),
        "over_untrained": None if gain is None else round(gain, 4),
        "draws": json.dumps([round(draw, 4) for draw in result.draws]) if result.draws else None,
        "split": result.split,
        "held_out_value": None if result.held_out_value is None else round(result.held_out_value, 4),
        "chosen": json.dumps(result.chosen),
        "grid": result.grid,
        "optimality_gap": None if result.optimality_gap is None else float(f"{result.optimality_gap:.3g}"),
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


def write_csv(path: Path, run: Run) -> None:
    """All lines under one header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS)
    writer.writeheader()
    writer.writerows(rows(run))
    write_whole(path, text.getvalue())
