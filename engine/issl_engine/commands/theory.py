"""issl-engine theory: what a recipe needs by the theory, and experiments that try the theory's claims."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from issl_engine.commands.options import is_quiet, json_option, overrides_argument, recipe_argument
from issl_engine.commands.stdout import reserved_stdout

if TYPE_CHECKING:
    from issl_engine.report.statistics import Summary
    from issl_engine.theory.overlap import ClassEstimate
    from issl_engine.theory.points import Point
    from issl_engine.theory.requirements import Requirement
    from issl_engine.theory.schema import TheoryRecipe


@click.group()
def theory() -> None:
    """What invariant self-supervised learning needs (Dubois et al. 2022), and whether it holds.

    \b
    Examples:
      issl-engine theory requirements swav_compare
      issl-engine theory run theory/dimension
    """


@theory.command()
@recipe_argument
@overrides_argument
@click.option("--arm", help="Arm to look at; default the first.")
@click.option("--encoder", "reference", help="Encoder whose features compare the views; default their pixels.")
@click.option("--images", type=click.IntRange(2, 2048), default=512, show_default=True, help="Images in the sample.")
@click.option("--views", type=click.IntRange(2, 32), default=8, show_default=True, help="Views per image.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the sample and the views.")
@json_option
def requirements(
    recipe: str, overrides: tuple[str, ...], arm: str | None, reference: str | None, images: int, views: int,
    seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Show what the theory asks of RECIPE: the number C of equivalence classes, width, heads and augmentations.

    C is estimated from a sample: two images are equivalent if views of them are as near as near views of one image
    are. The lower bound is what the sample or the labels show; the upper bound is the number of images.

    \b
    Examples:
      issl-engine theory requirements swav_compare --arm dissl
      issl-engine theory requirements swav_compare --encoder runs/swav_compare/cissl/seed0 --json
    """
    with reserved_stdout():
        from issl_engine.recipe.load import load_recipe
        from issl_engine.run.dataset import load_dataset
        from issl_engine.theory.overlap import estimate_classes
        from issl_engine.theory.requirements import requirements as of_theory
        from issl_engine.theory.sampled_views import sample_views
        from issl_engine.weights.open_encoder import open_encoder

        chosen = next(iter(load_recipe(recipe, overrides, [arm] if arm else None).arms.values()))
        encoder = None if reference is None else open_encoder(reference).encoder.eval()
        seen = load_dataset(chosen).pretraining_images
        sampled = sample_views(seen, chosen.views, num_images=images, num_views=views, encoder=encoder, seed=seed)
        estimate = estimate_classes(sampled.x_nVD, sampled.labels_n, num_images=len(seen))
        dim = chosen.encoder.build(image_size=chosen.views.largest_size).dim
        found = of_theory(chosen, estimate, dim)
    if as_json:
        record = {"classes": asdict(estimate), "requirements": [asdict(one) for one in found]}
        click.echo(json.dumps(record, indent=1, ensure_ascii=False))
        return
    _print_requirements(chosen.objective.name, estimate, found, space=reference or "pixels")


def _print_requirements(objective: str, estimate: "ClassEstimate", found: "list[Requirement]", *, space: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"equivalence classes C: {estimate.estimate} (at least {estimate.low}, at most {estimate.high} = all images), "
        f"from {estimate.views_per_image} views of {estimate.num_sampled} of {estimate.num_images} images, compared by "
        f"{space}",
        highlight=False,
        soft_wrap=True,
    )
    if estimate.joined_one_label is not None and estimate.joined_two_labels is not None:
        evidence = "" if estimate.evidence else ", so nothing shows that any are equivalent"
        console.print(
            f"joined: {100 * estimate.joined_one_label:.1f} % of the pairs of images with one label, "
            f"{100 * estimate.joined_two_labels:.1f} % of those with two{evidence}",
            highlight=False,
            soft_wrap=True,
        )
    table = Table(title=f"requirements of {objective}", title_justify="left")
    for title in ("", "now", "needed", "met"):
        table.add_column(title)
    for one in found:
        table.add_row(one.item, one.now, one.needed, {True: "yes", False: "no", None: "–"}[one.met])
    console.print(table)
    for one in found:
        if one.advice:
            console.print(f"{one.item}: {one.advice}", highlight=False, soft_wrap=True)


@theory.command("run")
@click.argument("experiment")
@overrides_argument
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of results; default runs/<name>.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Seeds measured at a time.")
def run_theory(experiment: str, overrides: tuple[str, ...], out: Path | None, jobs: int) -> None:
    """Run EXPERIMENT (a file, or a packaged one of theory/) on images whose equivalence classes are known.

    After each seed, results.csv, plot.svg and plot.png are written in place of the earlier ones; a stopped run goes on
    with the seeds that are missing. At the end come the means over seeds and, for each claim of the theory, its
    verdict: supported, refuted or not settled, by the 95 % interval of a quantity that is named.

    \b
    Examples:
      issl-engine theory run theory/dimension --jobs 2
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
            outcome = run_experiment(
                recipe, text, folder, command=command, jobs=jobs, on_encoder=lambda: progress.advance(task)
            )
    _print_means(recipe, outcome.points)
    for verdict in outcome.verdicts:
        click.echo(f"VERDICT {verdict}")
    click.echo(f"{len(recipe.seeds)} seeds, {outcome.seconds:.0f} s, {outcome.cpu_seconds:.0f} s of CPU time")
    for path in outcome.files:
        click.echo(path)


def _print_means(recipe: "TheoryRecipe", points: "list[Point]") -> None:
    """A table: one line per series and x, one column per metric."""
    from rich.console import Console
    from rich.table import Table

    from issl_engine.theory.points import largest, summaries, unit_of

    found, most = summaries(points), largest(points)
    metrics = list(dict.fromkeys(metric for _, _, metric in found))
    table = Table(title=recipe.description or recipe.name, title_justify="left")
    table.add_column("series")
    table.add_column(recipe.experiment.x_name.replace("_", " "), justify="right")
    for metric in metrics:
        unit = {"percent": " %", "nats": " (nats)"}.get(unit_of(metric), "")
        table.add_column(f"{metric.replace('_', ' ')}{unit}", justify="right")
    for series, x in dict.fromkeys((series, x) for series, x, _ in found):
        keys = [(series, x, metric) for metric in metrics]
        table.add_row(
            series, f"{x:g}", *(_cell(found[key], most[key], key[2]) if key in found else "–" for key in keys)
        )
    console = Console()
    console.print(table)
    for line in recipe.experiment.remarks(recipe.setup, points):
        console.print(line, highlight=False, soft_wrap=True)


def _cell(summary: "Summary", most: float, metric: str) -> str:
    """The mean and its interval; of what says how far probes have converged, the worst of all seeds."""
    if metric.startswith("probe_"):
        return f"{most:.0e}"
    half = "" if summary.half_width is None else f" ± {summary.half_width:.2f}"
    return f"{summary.mean:.2f}{half}"
