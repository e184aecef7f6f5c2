"""issl-engine run: the whole recipe."""

import json
import shlex
import sys
from pathlib import Path

import click

from issl_engine.commands.options import is_quiet, overrides_argument, recipe_argument


@click.command()
@recipe_argument
@overrides_argument
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder; default runs/<recipe name>.")
@click.option("--arm", "arms", multiple=True, help="Run only this arm; may be given several times.")
@click.option(
    "--resume",
    type=click.Choice(["auto", "never"]),
    default="auto",
    show_default=True,
    help="auto goes on with what is in the run folder; never refuses a folder that holds a run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON instead of the table.")
def run(
    recipe: str, overrides: tuple[str, ...], out: Path | None, arms: tuple[str, ...], resume: str, as_json: bool
) -> None:
    """Pretrain and probe every arm and seed of RECIPE (a file, or the name of a packaged one), then write the report.

    \b
    Examples:
      issl-engine run recipes/swav_compare.yaml
      issl-engine run swav_compare training.epochs=2 --out runs/quick
      torchrun --nproc-per-node 8 -m issl_engine run imagenet/swav_compare source.folder=DIR
    """
    from issl_engine.commands.training_display import TrainingDisplay, log_file
    from issl_engine.experiment import run_recipe
    from issl_engine.recipe.load import load_recipe
    from issl_engine.report.run_folder import load_run
    from issl_engine.report.table import print_table
    from issl_engine.training.deepspeed import start_ranks

    file = load_recipe(recipe, overrides, arms or None)
    folder = out or Path("runs") / next(iter(file.arms.values())).name
    ranks = start_ranks()
    with TrainingDisplay(quiet=is_quiet()) as display:
        run_recipe(
            file,
            folder,
            ranks=ranks,
            resume="never" if resume == "never" else "auto",
            on_arm=display.start if ranks.is_first else None,
            on_folder=log_file,
            command=shlex.join(["issl-engine", *sys.argv[1:]]),
        )
    if not ranks.is_first:
        return
    if as_json:
        click.echo(json.dumps(load_run(folder).as_json(), indent=1))
    else:
        print_table(load_run(folder))
        click.echo(f"report: {folder / 'report.html'}\nresults: {folder / 'results.csv'}")
