"""issl-engine validate: checks recipes without running them."""

import json
from typing import Any

import click

from issl_engine.commands.options import json_option
from issl_engine.commands.stdout import reserved_stdout


@click.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@json_option
def validate(recipes: tuple[str, ...], as_json: bool) -> None:
    """Check each RECIPE (a file or a packaged name), and show every mistake with its file, line and key.

    \b
    Examples:
      issl-engine validate recipes/swav_compare.yaml
      issl-engine validate my/*.yaml --json
    """
    with reserved_stdout():
        from issl_engine.recipe.locate import RecipeError

        verdicts: list[dict[str, Any]] = []
        for recipe in recipes:
            try:
                arms, seeds = _arms_and_seeds(recipe)
            except RecipeError as error:
                verdicts.append({"recipe": recipe, "valid": False, "errors": str(error).splitlines()})
            else:
                verdicts.append({"recipe": recipe, "valid": True, "arms": arms, "seeds": seeds})
    for verdict in verdicts:
        if not as_json and verdict["valid"]:
            click.echo(f"{verdict['recipe']}: valid (arms {', '.join(verdict['arms'])}; {_seeds(verdict['seeds'])})")
        for line in () if as_json else verdict.get("errors", ()):
            click.echo(f"error: {line}", err=True)
    if as_json:
        click.echo(json.dumps(verdicts, indent=1, ensure_ascii=False))
    if not all(verdict["valid"] for verdict in verdicts):
        raise click.exceptions.Exit(1)


def _arms_and_seeds(recipe: str) -> tuple[list[str], list[int]]:
    """Of a recipe, or of an experiment of ``theory run``, whose one arm is called after it. Raises RecipeError."""
    from issl_engine.recipe.load import is_experiment, load_config, load_recipe

    if is_experiment(recipe):
        from issl_engine.theory.schema import TheoryRecipe

        experiment, _ = load_config(TheoryRecipe, recipe)
        return [experiment.experiment.name], list(experiment.seeds)
    arms = load_recipe(recipe).arms
    return list(arms), list(next(iter(arms.values())).seeds)


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
