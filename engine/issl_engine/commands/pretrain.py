"""issl-engine pretrain: one arm, one seed, no probes."""

import json
from pathlib import Path

import click

from issl_engine.commands.options import is_quiet, json_option, overrides_argument, recipe_argument
from issl_engine.commands.stdout import reserved_stdout


@click.command()
@recipe_argument
@overrides_argument
@click.option("--arm", help="Which arm of the recipe; needed when it has several.")
@click.option("--seed", type=int, help="Seed; default the recipe's first.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder; default runs/<recipe name>.")
@json_option
def pretrain(
    recipe: str, overrides: tuple[str, ...], arm: str | None, seed: int | None, out: Path | None, as_json: bool
) -> None:
    """Pretrain one arm of RECIPE and print its checkpoint's folder; probes are left for 'issl-engine probe'.

    \b
    Example:
      issl-engine pretrain swav_compare --arm dissl --out runs/dissl training.epochs=4
    """
    with reserved_stdout():
        from issl_engine.commands.training_display import TrainingDisplay, interruption_as_message
        from issl_engine.experiment import arm_folder, run_recipe
        from issl_engine.recipe.load import load_recipe
        from issl_engine.training.checkpoints.verify import latest_checkpoint
        from issl_engine.training.deepspeed import start_ranks

        file = load_recipe(recipe, (*overrides, "probes=[]"), [arm] if arm else None)
        if len(file.arms) > 1:
            raise ValueError(f"{recipe}: the recipe has the arms {', '.join(file.arms)}; choose one with --arm")
        name, chosen = next(iter(file.arms.items()))
        if seed is not None:
            chosen = chosen.model_copy(update={"seeds": (seed,)})
        chosen = chosen.model_copy(update={"seeds": chosen.seeds[:1]})
        folder = out or Path("runs") / chosen.name
        ranks = start_ranks()
        with interruption_as_message(), TrainingDisplay(quiet=is_quiet()) as display:
            run_recipe(
                file.model_copy(update={"arms": {name: chosen}}),
                folder,
                ranks=ranks,
                on_arm=display.start if ranks.is_first else None,
            )
    if ranks.is_first:
        checkpoint = latest_checkpoint(arm_folder(folder, name, chosen.seeds[0]) / "checkpoints")
        click.echo(json.dumps({"checkpoint": str(checkpoint)}) if as_json else str(checkpoint))
