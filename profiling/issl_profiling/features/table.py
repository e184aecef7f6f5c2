"""What bench features prints and keeps: a table of the steps, the lines of features.csv."""

from typing import Any

from rich.console import Console
from rich.table import Table

from issl_profiling.features.case import FeatureCase
from issl_profiling.features.steps import Measured
from issl_profiling.results_file import ResultsFile

COLUMNS = (
    "images", "dim", "stored", "file_mib", "step", "rows", "seconds", "mib_per_second", "read_mib", "own_before_mib",
    "own_peak_mib", "limit_mib", "note", "device", "torch", "commit", "date", "command",
)  # fmt: skip
FEATURES_FILE = ResultsFile(columns=COLUMNS, holds="bench features' lines")


def print_features(case: FeatureCase, measured: list[Measured], console: Console | None = None) -> None:
    """One line per step."""
    console = console or Console()
    title = f"{case.num_images} x {case.dim} {case.stored}: {case.mib:.0f} MiB"
    caption = "MiB: read from the disk; own memory before, at most, and by how much it may grow"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("step")
    for name in ("rows", "s", "MiB/s", "read", "own before", "own at most", "may grow"):
        table.add_column(name, justify="right")
    for one in measured:
        record = as_record(case, one)
        table.add_row(
            one.step, str(one.rows), f"{one.seconds:.2f}", f"{record['mib_per_second']:.0f}", f"{one.read_mib:.0f}",
            f"{one.own_before_mib:.0f}", f"{one.own_peak_mib:.0f}", f"{one.limit_mib:.0f}",
        )  # fmt: skip
    console.print(table)
    for one in measured:
        each = f", {1024 * one.read_mib / one.rows:.0f} KiB read per row" if one.step.startswith("visit") else ""
        console.print(f"{one.step}: {one.note}{each}", highlight=False)
    console.print(f"a row has {case.row_bytes / 1024:.0f} KiB", highlight=False)


def as_record(case: FeatureCase, one: Measured) -> dict[str, Any]:
    """Of one step, for FEATURES_FILE."""
    return {
        "images": case.num_images,
        "dim": case.dim,
        "stored": case.stored,
        "file_mib": round(case.mib, 1),
        "step": one.step,
        "rows": one.rows,
        "seconds": round(one.seconds, 3),
        "mib_per_second": round(one.rows * case.row_bytes / 2**20 / one.seconds, 1),
        "read_mib": round(one.read_mib, 1),
        "own_before_mib": round(one.own_before_mib, 1),
        "own_peak_mib": round(one.own_peak_mib, 1),
        "limit_mib": round(one.limit_mib, 1),
        "note": one.note,
    }
