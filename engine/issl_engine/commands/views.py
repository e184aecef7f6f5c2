"""issl-engine views: a contact sheet of the crops."""

from pathlib import Path

import click

from issl_engine.commands.options import SEED, overrides_argument, recipe_argument
from issl_engine.commands.stdout import reserved_stdout


@click.command()
@recipe_argument
@overrides_argument
@click.option("--arm", help="Arm whose views to draw; default the first.")
@click.option("--images", type=click.IntRange(1, 64), default=6, show_default=True, help="Images, one per row.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the crops.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("views.png"), show_default=True,
    help="PNG file to write.",
)  # fmt: skip
def views(recipe: str, overrides: tuple[str, ...], arm: str | None, images: int, seed: int, out: Path) -> None:
    """Draw the crops that RECIPE makes of a few pretraining images, by the DALI pipeline of training.

    \b
    Examples:
      issl-engine views swav_compare
      issl-engine views swav_compare views.augmentation.flip=0 --images 4 --out crops.png
    """
    with reserved_stdout():
        from issl_engine.loading.contact_sheet import write_contact_sheet
        from issl_engine.recipe.load import load_recipe
        from issl_engine.run.dataset import load_dataset

        chosen = next(iter(load_recipe(recipe, overrides, [arm] if arm else None).arms.values()))
        seen = load_dataset(chosen).pretraining_images
        out.parent.mkdir(parents=True, exist_ok=True)
        write_contact_sheet(out, seen, chosen.views, num_images=min(images, len(seen)), seed=seed)
    click.echo(out)
