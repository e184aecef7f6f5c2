"""issl-engine run: the whole recipe."""

import shlex
import sys
from pathlib import Path

import click

from issl_engine.commands.options import is_quiet, json_option, overrides_argument, recipe_argument
from issl_engine.commands.stdout import reserved_stdout


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
@json_option
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
    with reserved_stdout():
        from issl_engine.recipe.load import load_recipe

        file = load_recipe(recipe, overrides, arms or None)  # a mistake in it should not wait for DeepSpeed

        from issl_engine.commands.training_display import TrainingDisplay, interruption_as_message
        from issl_engine.experiment import run_recipe
        from issl_engine.training.deepspeed import start_ranks

        folder = out or Path("runs") / next(iter(file.arms.values())).name
        ranks = start_ranks()
        with interruption_as_message(), TrainingDisplay(quiet=is_quiet()) as display:
            run_recipe(
                file,
                folder,
                ranks=ranks,
                resume="never" if resume == "never" else "auto",
                on_arm=display.start if ranks.is_first else None,
                command=shlex.join(["issl-engine", *sys.argv[1:]]),
            )
    if ranks.is_first:
        from issl_engine.commands.results import show_results

        show_results(folder, as_json=as_json)
