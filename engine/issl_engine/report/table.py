"""The comparison on the terminal."""

from rich.console import Console
from rich.table import Table

from issl_engine.probing.base import ProbeResult
from issl_engine.report.run_folder import ArmRuns, Run
from issl_engine.report.statistics import Summary

PROBE_TITLES = {"linear": "linear probe", "knn": "kNN", "logistic": "logistic probe"}
METRIC_WORDS = {
    "top1": "top-1 %", "mean_average_precision": "mAP %", "average_precision": "AP %", "r2": "R²", "rmse": "RMSE",
}  # fmt: skip


def headline(run: Run) -> tuple[list[str], list[list[str]]]:
    """(column titles, rows of text): top-1 a probe, gain over the untrained encoder, final loss, speed, minutes."""
    probes = run.probe_names
    titles = ["arm", *(f"{PROBE_TITLES.get(name, name)} top-1 %" for name in probes)]
    titles += ["over untrained", "final loss", "images/s", "minutes"]
    return titles, [_cells(row, run, probes) for row in run.rows]


def _cells(row: ArmRuns, run: Run, probes: list[str]) -> list[str]:
    scores = [row.probe(name) for name in probes]
    seconds, loss, speed = row.metric("seconds"), row.metric("loss"), row.images_per_second
    return [
        row.name,
        *(_text(score) for score in scores),
        _gain(row, run, probes),
        f"{loss.mean:.3f}" if loss else "–",
        f"{speed:.0f}" if speed else "–",
        f"{seconds.mean / 60:.1f}" if seconds else "–",
    ]


def _gain(row: ArmRuns, run: Run, probes: list[str]) -> str:
    """Of the first probe, in points."""
    untrained = next((control for control in run.controls if control.name.endswith("untrained encoder")), None)
    if untrained is None or not probes or row.objective is None:
        return "–"
    mine, floor = row.probe(probes[0]), untrained.probe(probes[0])
    return "–" if mine is None or floor is None else f"{mine.mean - floor.mean:+.1f}"


def _text(summary: Summary | None) -> str:
    return "–" if summary is None else str(summary)


def print_table(run: Run, console: Console | None = None) -> None:
    """Prints the comparison and what its numbers mean to stdout."""
    console = console or Console()
    titles, rows = headline(run)
    title = f"{run.recipe} ({run.status})"
    table = Table(title=title, title_justify="left", caption="\n".join(meaning(run)), caption_justify="left")
    for index, name in enumerate(titles):
        table.add_column(name, justify="left" if index == 0 else "right")
    for index, row in enumerate(rows):
        table.add_row(*row, end_section=index == len(run.arms) - 1)
    console.print(table)


def meaning(run: Run) -> list[str]:
    """Split, preprocessing, grid and seeds behind the numbers."""
    lines = []
    for name in run.probe_names:
        example = next(result for result in run.results if result.probe == name)
        lines.append(
            f"{PROBE_TITLES.get(name, name)}: {example.split} split ({example.num_split_images} images), fitted on "
            f"{example.num_train_images}; {example.preprocessing}; grid {example.grid}"
        )
    seeds = sorted({seed.seed for row in run.arms for seed in row.seeds})
    interval = "mean ± half of the 95 % t-interval over seeds" if len(seeds) > 1 else "one seed, so no interval"
    lines.append(f"seeds {seeds}: {interval}")
    return lines


def print_probe_results(results: list[ProbeResult], console: Console | None = None) -> None:
    """One line a probe, for a single encoder."""
    console = console or Console()
    table = Table("probe", "setting", "metric", "value", "95 % interval", "held-out", "split", "chosen", "grid")
    for result in results:
        chosen = ", ".join(f"{key} {value}" for key, value in result.chosen.items())
        held_out = "–" if result.held_out_value is None else f"{result.held_out_value:.2f}"
        ends = "–" if result.interval is None else " to ".join(f"{end:.2f}" for end in result.interval)
        table.add_row(
            result.probe, result.setting, METRIC_WORDS.get(result.metric, result.metric), f"{result.value:.2f}", ends,
            held_out, f"{result.split} ({result.num_split_images})", chosen, result.grid,
        )  # fmt: skip
    console.print(table)
    if results:
        console.print(f"preprocessing: {results[0].preprocessing}; seed {results[0].seed}", highlight=False)
