"""issl-engine theory: what a recipe needs by the theory, and experiments that try the theory's claims."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from issl_engine.commands.options import is_quiet, overrides_argument
from issl_engine.commands.stdout import reserved_stdout

if TYPE_CHECKING:
    from issl_engine.theory.experiments.base import Point
    from issl_engine.theory.schema import TheoryRecipe


@click.group()
def theory() -> None:
    """What invariant self-supervised learning needs (Dubois et al. 2022), and whether it holds.

    \b
    Examples:
      issl-engine theory requirements swav_compare
      issl-engine theory run theory/dimension
    """


@theory.command("run")
@click.argument("experiment")
@overrides_argument
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of results; default runs/<name>.")
def run_theory(experiment: str, overrides: tuple[str, ...], out: Path | None) -> None:
    """Run EXPERIMENT (a file, or a packaged one of theory/) on images whose equivalence classes are known.

    Writes results.csv, plot.svg and plot.png, and prints means over seeds.

    \b
    Examples:
      issl-engine theory run theory/dimension
      issl-engine theory run theory/heads seeds=[0,1] pretraining.steps=100 --out heads
    """
    with reserved_stdout():
        from rich.console import Console
        from rich.progress import Progress

        from issl_engine.recipe.load import load_config
        from issl_engine.theory.run import run_experiment
        from issl_engine.theory.schema import TheoryRecipe

        recipe, text = load_config(TheoryRecipe, experiment, overrides)
        folder = Path("runs") / recipe.name if out is None else out
        command = shlex.join(["issl-engine", *sys.argv[1:]])
        with Progress(console=Console(stderr=True), disable=is_quiet() or not sys.stderr.isatty()) as progress:
            total = len(recipe.seeds) * recipe.experiment.num_encoders(recipe.setup)
            task = progress.add_task("encoders", total=total)
            outcome = run_experiment(recipe, text, folder, command=command, on_encoder=lambda: progress.advance(task))
    _print_means(recipe, outcome.points)
    click.echo(f"{len(recipe.seeds)} seeds, {outcome.seconds:.0f} s")
    for path in outcome.files:
        click.echo(path)


def _print_means(recipe: "TheoryRecipe", points: "list[Point]") -> None:
    """A table, one line a series and x, a column a metric."""
    from rich.console import Console
    from rich.table import Table

    from issl_engine.theory.results import X_NAMES, summaries
    from issl_engine.theory.verdict import verdict

    found = summaries(points)
    metrics = list(dict.fromkeys(metric for _, _, metric in found))
    table = Table(title=recipe.description or recipe.name, title_justify="left")
    table.add_column("series")
    table.add_column(X_NAMES.get(recipe.experiment.name, "d").replace("_", " "), justify="right")
    for metric in metrics:
        unit = "" if metric.startswith("cosine") else " %"
        table.add_column(f"{metric.replace('_', ' ')}{unit}", justify="right")
    for series, x in dict.fromkeys((series, x) for series, x, _ in found):
        cells = [_cell(found[series, x, metric]) if (series, x, metric) in found else "–" for metric in metrics]
        table.add_row(series, f"{x:g}", *cells)
    console = Console()
    console.print(table)
    for line in verdict(recipe, points):
        console.print(line, highlight=False, soft_wrap=True)


def _cell(summary: object) -> str:
    from issl_engine.report.statistics import Summary

    assert isinstance(summary, Summary)
    half = "" if summary.half_width is None else f" ± {summary.half_width:.2f}"
    return f"{summary.mean:.2f}{half}"
