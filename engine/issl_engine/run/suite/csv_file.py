"""probes.csv of a suite: one line a result."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from issl_engine.environment import device_summary
from issl_engine.probing.probes.base import ProbeResult
from issl_engine.whole_file import write_whole

COLUMNS = (
    "encoder", "suite", "probe", "protocol", "network", "setting", "metric", "value", "interval_low", "interval_high",
    "split", "held_out_value", "chosen", "grid", "preprocessing", "num_train_images", "num_split_images", "draws",
    "seed", "device", "commit", "date", "command",
)  # fmt: skip


def write_suite_csv(
    path: Path, results: list[ProbeResult], *, encoder: str, suite: str, environment: dict[str, Any]
) -> None:
    """``environment``: what collect_environment gives, with the command under ``command``. Raises OSError."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS)
    writer.writeheader()
    for result in results:
        low, high = result.interval or (None, None)
        writer.writerow(
            {
                "encoder": encoder,
                "suite": suite,
                "probe": result.probe,
                "protocol": result.protocol,
                "network": result.network,
                "setting": result.setting,
                "metric": result.metric,
                "value": round(result.value, 4),
                "interval_low": "" if low is None else round(low, 4),
                "interval_high": "" if high is None else round(high, 4),
                "split": result.split,
                "held_out_value": "" if result.held_out_value is None else round(result.held_out_value, 4),
                "chosen": json.dumps(result.chosen),
                "grid": result.grid,
                "preprocessing": result.preprocessing,
                "num_train_images": result.num_train_images,
                "num_split_images": result.num_split_images,
                "draws": json.dumps([round(draw, 4) for draw in result.draws]),
                "seed": result.seed,
                "device": device_summary(environment),
                "commit": environment.get("commit") or "",
                "date": environment.get("date") or "",
                "command": environment.get("command") or "",
            }
        )
    write_whole(path, text.getvalue())
