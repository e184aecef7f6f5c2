"""issl-engine show: the resolved recipe."""

import json

import click

from issl_engine.commands.options import json_option, overrides_argument, recipe_argument
from issl_engine.commands.stdout import reserved_stdout


@click.command()
@recipe_argument
@overrides_argument
@click.option("--arm", "arms", multiple=True, help="Show only this arm. It may be given several times.")
@click.option("--plain", is_flag=True, help="Leave out the comments.")
@json_option
def show(recipe: str, overrides: tuple[str, ...], arms: tuple[str, ...], plain: bool, as_json: bool) -> None:
    """Print RECIPE with every key, its value and its meaning. The output is a recipe again.

    \b
    Examples:
      issl-engine show swav_compare
      issl-engine show swav_compare training.epochs=5 --arm dissl --plain > mine.yaml
    """
    with reserved_stdout():
        from issl_engine.recipe.load import load_recipe
        from issl_engine.recipe.show import render_file

        file = load_recipe(recipe, overrides, arms or None)
    if as_json:
        resolved = {name: arm.model_dump(mode="json") for name, arm in file.arms.items()}
        click.echo(json.dumps(resolved, indent=1, ensure_ascii=False))
    else:
        click.echo(render_file(file, commented=not plain), nl=False)
