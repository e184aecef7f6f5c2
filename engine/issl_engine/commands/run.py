"""issl-engine run: the whole recipe."""

import shlex
import sys
from pathlib import Path
from typing import Literal

import click

from issl_engine.commands.options import (
    LaunchOptions,
    json_option,
    launch_options,
    overrides_argument,
    recipe_argument,
    run_folder_option,
)
from issl_engine.commands.stdout import reserved_stdout


@click.command()
@recipe_argument
@overrides_argument
@run_folder_option
@click.option("--arm", "arms", multiple=True, help="Run only this arm. It may be given several times.")
@click.option(
    "--resume",
    type=click.Choice(["auto", "never"]),
    default="auto",
    show_default=True,
    help="auto continues the run in the folder; never refuses a folder that holds a run.",
)
@click.option(
    "--smoke",
    is_flag=True,
    help="Only try whether it runs: a few small steps per arm on 200 drawn images, in runs/<recipe name>_smoke.",
)
@launch_options
@json_option
def run(
    recipe: str,
    overrides: tuple[str, ...],
    out: Path | None,
    arms: tuple[str, ...],
    resume: Literal["auto", "never"],
    smoke: bool,
    launch: LaunchOptions,
    as_json: bool,
) -> None:
    """Pretrain and probe every arm and seed of RECIPE (a file, or the name of a packaged one), then write the report.

    Uses all GPUs of this machine, one process per GPU. If a rank fails, its reason is reported and the other ranks are
    stopped. The logs of the ranks are in RUN/logs.

    \b
    Examples:
      issl-engine run recipes/swav_compare.yaml
      issl-engine run swav_compare training.epochs=2 --out runs/quick
      issl-engine run smoke --ranks 2
      issl-engine run tinyimagenet/table1 --smoke
      issl-engine run imagenet/swav_compare source.folder=DIR --hostfile hosts
      torchrun --nproc-per-node 8 -m issl_engine run imagenet/swav_compare source.folder=DIR
    """
    from issl_engine.commands.launching import as_rank, hosts_to_start, run_as_ranks, train_here

    with as_rank() as failures:
        with reserved_stdout():
            from issl_engine.recipe.load import load_recipe

            file = load_recipe(recipe, overrides, arms or None)  # a mistake in it should not wait for DeepSpeed
            if smoke:
                from issl_engine.recipe.smoke import smoke as cut_down

                file = cut_down(file)
            folder = out or Path("runs") / next(iter(file.arms.values())).name
            hosts = hosts_to_start(launch)
        if hosts is not None:
            run_as_ranks(hosts, file.arms, folder, launch, resume=resume)
            return
        with reserved_stdout():
            command = shlex.join(["issl-engine", *sys.argv[1:]])
            ranks = train_here(file, folder, failures, resume=resume, command=command)
        if ranks.is_first:
            from issl_engine.commands.report import show_results

            show_results(folder, as_json=as_json)
