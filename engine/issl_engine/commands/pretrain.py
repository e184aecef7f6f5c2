"""issl-engine pretrain: one arm, one seed, no probes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from issl_engine.commands.options import (
    SEED,
    LaunchOptions,
    json_option,
    launch_options,
    overrides_argument,
    recipe_argument,
    run_folder_option,
)
from issl_engine.commands.stdout import reserved_stdout
from issl_engine.mistakes import Mistake

if TYPE_CHECKING:
    from issl_engine.recipe.schema import RecipeFile


@click.command()
@recipe_argument
@overrides_argument
@click.option("--arm", help="Arm of the recipe; needed if it has several.")
@click.option("--seed", type=SEED, help="Seed; default the recipe's first.")
@run_folder_option
@launch_options
@json_option
def pretrain(
    recipe: str,
    overrides: tuple[str, ...],
    arm: str | None,
    seed: int | None,
    out: Path | None,
    launch: LaunchOptions,
    as_json: bool,
) -> None:
    """Pretrain one arm of RECIPE and print the folder of its checkpoint. No probes are made: see 'issl-engine probe'.

    Uses all GPUs of this machine, one process per GPU. Ranks and hosts are chosen as for 'issl-engine run'.

    \b
    Examples:
      issl-engine pretrain swav_compare --arm dissl --out runs/dissl training.epochs=4
      issl-engine pretrain smoke --arm simclr --ranks 2
    """
    from issl_engine.commands.launching import as_rank, hosts_to_start, run_as_ranks, train_here

    with as_rank() as failures:
        with reserved_stdout():
            file = _one_arm_and_seed(recipe, overrides, arm, seed)
            name, chosen = next(iter(file.arms.items()))
            folder = out or Path("runs") / chosen.name
            hosts = hosts_to_start(launch)
        if hosts is not None:
            run_as_ranks(hosts, file.arms, folder, launch)
            return
        with reserved_stdout():
            ranks = train_here(file, folder, failures)
        if ranks.is_first:
            from issl_engine.layout import CHECKPOINTS, arm_folder
            from issl_engine.training.checkpoints.verify import latest_checkpoint

            checkpoint = latest_checkpoint(arm_folder(folder, name, chosen.seeds[0]) / CHECKPOINTS)
            click.echo(json.dumps({"checkpoint": str(checkpoint)}) if as_json else str(checkpoint))


def _one_arm_and_seed(recipe: str, overrides: tuple[str, ...], arm: str | None, seed: int | None) -> "RecipeFile":
    from issl_engine.recipe.load import load_recipe

    file = load_recipe(recipe, (*overrides, "probes=[]"), [arm] if arm else None)
    if len(file.arms) > 1:
        raise Mistake(f"{recipe}: the recipe has the arms {', '.join(file.arms)}; choose one with --arm")
    name, chosen = next(iter(file.arms.items()))
    seeds = chosen.seeds[:1] if seed is None else (seed,)
    return file.model_copy(update={"arms": {name: chosen.model_copy(update={"seeds": seeds})}})
