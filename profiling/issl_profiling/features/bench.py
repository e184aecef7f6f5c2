"""Runs the steps one after the other, and their figures as lines of a CSV and as a table."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from issl_engine.mistakes import Mistake
from issl_profiling.data.results_file import append_lines
from issl_profiling.features.case import FeatureCase
from issl_profiling.features.steps import STEPS, Measured, measure

WHAT = "bench features's lines"
COLUMNS = (
    "images", "dim", "stored", "file_mib", "step", "rows", "seconds", "mib_per_second", "read_mib", "own_before_mib",
    "own_peak_mib", "limit_mib", "note", "device", "torch", "commit", "date", "command",
)  # fmt: skip


def bench_features(
    case: FeatureCase, folder: Path, limit_mib: float, on_step: Callable[[str], None]
) -> list[Measured]:  # fmt: skip
    """All steps on a file in ``folder``. Raises ValueError where a step needs more than ``limit_mib`` beyond what the
    process had before."""
    measured = []
    for step in STEPS:
        on_step(step)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                measured.append(pool.submit(measure, step, case, folder, limit_mib).result())
            except (MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                    raise
                raise Mistake(f"the step '{step}' needs more than {limit_mib:g} MiB; raise --may-grow") from error
    return measured


def append_records(
    path: Path, case: FeatureCase, measured: list[Measured], made_by: dict[str, Any]
) -> list[dict[str, Any]]:
    """Adds a line for each step to the file, and gives them back."""
    lines = [_record(case, one) | {key: made_by[key] for key in COLUMNS[-5:]} for one in measured]
    append_lines(path, COLUMNS, lines)
    return lines


def print_features(case: FeatureCase, measured: list[Measured], console: Console | None = None) -> None:
    """One line a step."""
    console = console or Console()
    title = f"{case.num_images} x {case.dim} {case.stored}: {case.mib:.0f} MiB"
    caption = "MiB: read from the disk; own memory before, at most, and by how much it may grow"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("step")
    for name in ("rows", "s", "MiB/s", "read", "own before", "own at most", "may grow"):
        table.add_column(name, justify="right")
    for one in measured:
        record = _record(case, one)
        table.add_row(
            one.step, str(one.rows), f"{one.seconds:.2f}", f"{record['mib_per_second']:.0f}", f"{one.read_mib:.0f}",
            f"{one.own_before_mib:.0f}", f"{one.own_peak_mib:.0f}", f"{one.limit_mib:.0f}",
        )  # fmt: skip
    console.print(table)
    for one in measured:
        each = f", {1024 * one.read_mib / one.rows:.0f} KiB read a row" if one.step.startswith("visit") else ""
        console.print(f"{one.step}: {one.note}{each}", highlight=False)
    console.print(f"a row has {case.row_bytes / 1024:.0f} KiB", highlight=False)


def _record(case: FeatureCase, one: Measured) -> dict[str, Any]:
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
