"""The recipe that a checkpoint was made with, as its manifest has it."""

from pathlib import Path

from pydantic import ValidationError

from issl_engine.recipe.check import first_sentence
from issl_engine.recipe.earlier_versions import as_of_today
from issl_engine.recipe.schema import Recipe
from issl_engine.training.checkpoints.manifest import MANIFEST, CheckpointError, Manifest


def recipe_of(checkpoint: Path, manifest: Manifest) -> Recipe:
    """Raises CheckpointError for a recipe that this version does not know."""
    try:
        return Recipe.model_validate(as_of_today(manifest.recipe))
    except ValidationError as error:
        raise CheckpointError(
            f"{checkpoint / MANIFEST}: its recipe is not one of this version of issl-engine "
            f"({first_sentence(error)}); use the version that wrote the checkpoint"
        ) from error
