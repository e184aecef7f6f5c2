"""The comparison on the terminal."""

from rich.console import Console
from rich.table import Table

from issl_engine.report.columns import Column
from issl_engine.report.differences import (
    Difference,
    differences_to_show,
    gain_over_untrained,
    meaning_of_differences,
)
from issl_engine.report.over_training import lines_over_training
from issl_engine.report.run_folder import ArmRuns, Run
from issl_engine.report.statistics import Summary


def headline(run: Run) -> tuple[list[str], list[list[str]]]:
    """(column titles, rows of text): each plain probe, gain over the untrained encoder, final loss, speed, minutes."""
    columns = run.plain_columns
    titles = ["arm", *(column.title for column in columns)]
    titles += ["over untrained", "final loss", "images/s", "minutes"]
    return titles, [_cells(row, run, columns) for row in run.rows]


def _cells(row: ArmRuns, run: Run, columns: list[Column]) -> list[str]:
    seconds, loss, speed = row.metric("seconds"), row.metric("loss"), row.images_per_second
    gain = gain_of(row, run)
    return [
        row.name,
        *(_text(row.score(column), column.digits) for column in columns),
        "–" if gain is None else gain.text,
        f"{loss.mean:.3f}" if loss else "–",
        f"{speed:.0f}" if speed else "–",
        f"{seconds.mean / 60:.1f}" if seconds else "–",
    ]


def gain_of(row: ArmRuns, run: Run) -> Difference | None:
    """Of the first column: what the arm gives more than its own untrained encoder; None where either is not probed."""
    columns = run.plain_columns
    gain = gain_over_untrained(row, columns[0]) if columns else None
    return None if gain is None or gain.summary is None else gain


def best_row(run: Run, column: Column) -> int | None:
    """Place among the arms of the best mean; None before any is probed."""
    scores = {index: arm.score(column) for index, arm in enumerate(run.arms)}
    means = {index: score.mean for index, score in scores.items() if score is not None}
    if not means:
        return None
    sign = -1 if column.lower_is_better else 1
    return max(means, key=lambda index: sign * means[index])


def _text(summary: Summary | None, digits: int) -> str:
    return "–" if summary is None else summary.text(digits)


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
    found = differences_to_show(run)
    if any(one.summary is not None for one in found):
        console.print(_differences_table(found))
    for line in meaning_of_differences(found):
        console.print(line, highlight=False, soft_wrap=True)
    for line in lines_over_training(run):
        console.print(line, highlight=False, soft_wrap=True)


def _differences_table(found: list[Difference]) -> Table:
    columns = list(dict.fromkeys(one.column for one in found))
    table = Table(title="differences", title_justify="left")
    table.add_column("pair", justify="left")
    for column in columns:
        table.add_column(column.title, justify="right")
    for pair, texts in rows_of(found):
        table.add_row(pair, *texts)
    return table


def rows_of(found: list[Difference]) -> list[tuple[str, list[str]]]:
    """("first - second", one text a column), pair by pair."""
    rows: dict[str, list[str]] = {}
    for one in found:
        rows.setdefault(f"{one.first} - {one.second}", []).append(one.text)
    return list(rows.items())


def meaning(run: Run) -> list[str]:
    """Split, preprocessing, grid and seeds behind the numbers."""
    lines = []
    for column in run.plain_columns:
        example = next(result for result in run.results if column.holds(result))
        lines.append(
            f"{column.name}: {example.split} split ({example.num_split_images} "
            f"images), fitted on {example.num_train_images}; {example.preprocessing}; grid {example.grid}"
            f"{largest_gap(run, column)}"
        )
    further = len(run.columns) - len(run.plain_columns)
    if further:
        lines.append(f"{further} further columns of other settings are in results.csv and report.html")
    seeds = sorted({seed.seed for row in run.arms for seed in row.seeds})
    several = "mean ± half of the 95 % t-interval over seeds"
    lines.append(f"seeds {seeds}: {several if len(seeds) > 1 else _one_seed(run)}")
    return lines


def largest_gap(run: Run, column: Column) -> str:
    """What is known of how near the column's fits are to their optimum; empty where no bound was made."""
    gaps = [one.optimality_gap for one in run.results if column.holds(one) and one.optimality_gap is not None]
    return f"; largest duality gap of a fit {max(gaps):.1e} nats" if gaps else ""


def _one_seed(run: Run) -> str:
    if any(len(result.draws) > 1 for result in run.results):
        return "one seed; ± is half of the 95 % t-interval over draws of training images"
    if any(result.interval is not None for result in run.results):
        return "one seed; brackets are the 95 % bootstrap interval over the judged images"
    return "one seed, so no interval"
