"""issl-engine diagnose: what an encoder's representation looks like, beside the theory's optimum."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from issl_engine.commands.options import NETWORK, NETWORK_HELP, SEED, json_option, overrides_argument
from issl_engine.commands.stdout import reserved_stdout
from issl_engine.mistakes import Mistake

if TYPE_CHECKING:
    from issl_engine.probing.config import Network


@click.command()
@click.argument("reference")
@overrides_argument
@click.option(
    "--recipe", "recipe_name", metavar="RECIPE",
    help="Recipe with the source and the views; default the encoder's own. Images are prepared for the encoder.",
)  # fmt: skip
@click.option("--network", type=NETWORK, help=NETWORK_HELP)
@click.option("--seed", type=SEED, help="Seed of the images and views; default the checkpoint's, or 0.")
@json_option
def diagnose(
    reference: str, overrides: tuple[str, ...], recipe_name: str | None, network: "Network | None", seed: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure collapse, invariance and distance to the theory's optimum of the encoder REFERENCE: a checkpoint folder,
    the folder of a run's arm and seed (its newest one), or any other weights (issl-engine list weights).

    With the source and views of the encoder's own recipe, the objective is measured too: its use of classes, the
    spectra of its heads. KEY=VALUE changes the recipe.

    \b
    Examples:
      issl-engine diagnose runs/swav_compare/dissl/seed0
      issl-engine diagnose runs/swav_compare/dissl/seed0 diagnostics.after_views=50
      issl-engine diagnose runs/mine/dino/seed0 --network teacher
      issl-engine diagnose runs/swav_compare/dissl/seed0 --recipe tinyimagenet/dissl --json
    """
    with reserved_stdout():
        from issl_engine.diagnosis.diagnose import diagnose as diagnose_encoder
        from issl_engine.diagnosis.diagnose import diagnose_checkpoint
        from issl_engine.diagnosis.measure import as_json as diagnosis_to_json
        from issl_engine.diagnosis.table import print_diagnosis
        from issl_engine.ranks import start_ranks
        from issl_engine.recipe.load import change_recipe, load_recipe
        from issl_engine.run.dataset import load_dataset
        from issl_engine.training.checkpoints.find import checkpoint_if_any
        from issl_engine.training.checkpoints.layout import ENCODER
        from issl_engine.weights.open_encoder import open_encoder

        opened = open_encoder(reference)
        recipe = opened.recipe
        if recipe_name is not None:
            recipe = next(iter(load_recipe(recipe_name).arms.values())).prepared_as(opened.preprocessing)
        if recipe is None:
            raise Mistake(
                f"{opened.name}: these weights come without a recipe, so nothing says on which images and views to "
                "measure them; name one with --recipe"
            )
        recipe = change_recipe(recipe, overrides)
        if network is not None:
            recipe = recipe.model_copy(
                update={"evaluation": recipe.evaluation.model_copy(update={"network": network})}
            )  # fmt: skip
        if network is not None or recipe.evaluation.shown_network == "teacher":
            opened = open_encoder(reference, recipe.evaluation.shown_network)
        ranks = start_ranks()
        dataset = load_dataset(recipe)
        own = opened.recipe
        alike = own is not None and (recipe.source, recipe.views) == (own.source, own.views)
        checkpoint = checkpoint_if_any(Path(reference), only={ENCODER}) if alike else None
        if checkpoint is not None:
            found = diagnose_checkpoint(checkpoint, recipe, dataset, ranks, seed=seed)
        else:
            chosen = opened.seed if seed is None else seed
            found = diagnose_encoder(
                opened.encoder.to(ranks.device), recipe, dataset, seed=chosen or 0, device=ranks.device
            )
    if as_json:
        click.echo(json.dumps(diagnosis_to_json(found), indent=1))
    else:
        print_diagnosis(found, opened.name)
