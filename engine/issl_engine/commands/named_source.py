"""The SOURCE argument of the data commands: a folder, or a recipe with overrides."""

from pathlib import Path

import click

from issl_engine.sources.base import SourceConfig
from issl_engine.sources.recognise import source_of_folder


def named_source(source: str, overrides: tuple[str, ...]) -> SourceConfig:
    """Of a recipe, the source of its first arm. Raises ValueError as these do, UsageError for a folder's overrides."""
    if not Path(source).is_dir():
        from issl_engine.recipe.load import load_recipe  # takes seconds, since it knows every part of a recipe

        return next(iter(load_recipe(source, overrides, None).arms.values())).source
    if overrides:
        raise click.UsageError(f"{overrides[0]}: a folder has no keys to override; name a recipe")
    return source_of_folder(Path(source))
