"""differences.csv: one line for each pair of arms and plain probe."""

import csv
import io
from pathlib import Path

from issl_engine.report.differences import Difference, all_differences
from issl_engine.report.run_folder import Run
from issl_engine.whole_file import write_whole

COLUMNS = (
    "recipe", "arm", "minus", "probe", "protocol", "network", "metric", "difference", "interval_low", "interval_high",
    "interval_covers", "seeds", "degrees_of_freedom", "not_paired",
)  # fmt: skip


def write_differences(path: Path, run: Run) -> None:
    """All lines under one header. ``interval_covers``: other seeds, or other judged images."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS)
    writer.writeheader()
    writer.writerows(_line(run, one) for one in all_differences(run))
    write_whole(path, text.getvalue())


def _line(run: Run, one: Difference) -> dict[str, object]:
    low, high = (one.summary.ends if one.summary else None) or (None, None)
    return {
        "recipe": run.recipe,
        "arm": one.first,
        "minus": one.second,
        "probe": one.column.probe,
        "protocol": one.column.protocol,
        "network": one.column.network,
        "metric": one.column.metric,
        "difference": None if one.summary is None else round(one.summary.mean, 4),
        "interval_low": None if low is None else round(low, 4),
        "interval_high": None if high is None else round(high, 4),
        "interval_covers": one.covers,
        "seeds": " ".join(map(str, one.seeds)),
        "degrees_of_freedom": len(one.seeds) - 1 if one.covers == "seeds" else None,
        "not_paired": one.why_none,
    }
