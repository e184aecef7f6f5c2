"""Arguments that several commands share."""

import click

recipe_argument = click.argument("recipe")
"""RECIPE: a file, or the name of a packaged recipe."""

overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
"""Overrides of the recipe's keys, such as ``training.epochs=2``."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def is_quiet() -> bool:
    """Whether ``--quiet`` was given before the command."""
    return bool(click.get_current_context().find_root().params.get("quiet", False))
