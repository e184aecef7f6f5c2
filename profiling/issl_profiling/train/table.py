"""What bench train prints and keeps: a table per arm, ratios, the lines of train.csv."""

import io
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from issl_profiling.results_file import MADE_BY, ResultsFile, significant
from issl_profiling.timing import spread
from issl_profiling.train.candidate import WHOLE, LeftOut
from issl_profiling.train.case import TrainCase
from issl_profiling.train.ratios import Ratio, by_name, ratio_of_times
from issl_profiling.train.rounds import Rounds

WIDTH = 120
COLUMNS = (
    "recipe", "arm", "views", "batch_size", "threads", "kind", "name", "images_per_second", "p20", "p80",
    "views_per_second", "ms_per_step", "whole_over_it", "gflop_per_step", "tflops", "peak_mib", "data_fraction",
    "device_fraction", "host_fraction", "steps", "rounds", *MADE_BY,
)  # fmt: skip
TRAIN_FILE = ResultsFile(columns=COLUMNS, holds="bench train's lines")
ABOUT = (
    "Peak memory on a CPU: the process's resident size beyond what it was before, without workers. TFLOP/s: matrix "
    "products and convolutions only."
)


def records(case: TrainCase, rounds: list[Rounds], steps: int) -> list[dict[str, Any]]:
    """One per candidate, for TRAIN_FILE. ``whole_over_it``: how many times as fast as it our whole run is."""
    return [_record(case, found, by_name(rounds, WHOLE), steps) for found in rounds]


def _record(case: TrainCase, found: Rounds, whole: Rounds, steps: int) -> dict[str, Any]:
    candidate, recipe = found.candidate, case.recipe
    seconds = median(found.seconds_per_step)
    rates = spread([case.images_per_step / value for value in found.seconds_per_step])
    shares = {
        f"{name}_fraction": round(fmean(getattr(share, name) for share in found.shares), 4) if found.shares else None
        for name in ("data", "device", "host")
    }
    return {
        "recipe": recipe.name, "arm": case.arm, "views": case.loader.views_text, "batch_size": case.images_per_step,
        "threads": recipe.data.decode_threads, "kind": candidate.kind, "name": candidate.name,
        "images_per_second": significant(rates.median), "p20": significant(rates.p20), "p80": significant(rates.p80),
        "views_per_second": significant(rates.median * recipe.views.num_views),
        "ms_per_step": significant(1000 * seconds),
        "whole_over_it": significant(ratio_of_times(found, whole)),
        "gflop_per_step": None if candidate.flops is None else significant(candidate.flops / 1e9),
        "tflops": None if candidate.flops is None else significant(candidate.flops / seconds / 1e12),
        "peak_mib": significant(max(found.peak_mib)), **shares, "steps": steps, "rounds": len(found.seconds_per_step),
    }  # fmt: skip


def render(case: TrainCase, lines: list[dict[str, Any]], found: list[Ratio], left_out: list[LeftOut]) -> str:
    """The table of one arm, its ratios with their targets, and who has no number and why."""
    first = lines[0]
    table = Table(
        title=f"{first['recipe']}, {case.arm}: {first['views']}, batch {first['batch_size']}, "
        f"{first['rounds']} rounds of {first['steps']} steps, medians",
        title_justify="left",
    )
    table.add_column("")
    for title in ("images/s", "20 to 80 %", "views/s", "ms per step", "whole / it", "TFLOP/s", "peak MiB"):
        table.add_column(title, justify="right")
    table.add_column("data, device, host")
    for line in lines:
        table.add_row(
            line["name"], f"{line['images_per_second']:.0f}", f"{line['p20']:.0f} to {line['p80']:.0f}",
            f"{line['views_per_second']:.0f}", f"{line['ms_per_step']:.4g}", f"{line['whole_over_it']:.2f}",
            "" if line["tflops"] is None else f"{line['tflops']:.3g}", f"{line['peak_mib']:.0f}", _shares_text(line),
        )  # fmt: skip
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(table)
    for ratio in found:
        console.print(f"{ratio.name}: {ratio.value:.3g} ({ratio.verdict})", highlight=False, soft_wrap=True)
    for one in left_out:
        console.print(f"{one.name}: no number: {one.reason}", highlight=False, markup=False, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _shares_text(line: dict[str, Any]) -> str:
    if line["data_fraction"] is None:
        return ""
    return ", ".join(f"{line[f'{name}_fraction']:.0%}" for name in ("data", "device", "host"))
