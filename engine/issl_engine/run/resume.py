"""What may change between two runs in one folder: whatever does not touch the weights."""

from pathlib import Path
from typing import Any

from issl_engine.layout import CHECKPOINTS, arm_folder
from issl_engine.mistakes import Mistake
from issl_engine.recipe.schema import Recipe
from issl_engine.run.kept import first_difference
from issl_engine.training.checkpoints.manifest import (
    CheckpointError,
    OtherFormatError,
    checkpoint_folders,
    read_manifest,
)

FREE_KEYS = {
    *("name", "description", "seeds", "checkpoint", "data", "deepspeed"),
    *("diagnostics", "evaluation", "probes", "controls", "search"),
}  # fmt: skip
"""Keys that may change: they do not touch the weights, or (deepspeed) their last bits alone."""
FREE_TRAINING_KEYS = {"on_non_finite", "max_skipped_steps", "watchdog_seconds", "log_every_steps"}
"""Keys of ``training`` that may change: after a NaN or the watchdog has stopped a run, it may go on otherwise."""


def check_folder(out: Path, recipes: dict[str, Recipe]) -> None:
    """Refuses to mix the weights of two recipes in one folder: the checkpoints there say what they were made with.

    Raises Mistake, and CheckpointError for a checkpoint of another version.
    """
    for arm, recipe in recipes.items():
        for seed in recipe.seeds:
            folder = arm_folder(out, arm, seed)
            earlier = _newest_recipe(folder / CHECKPOINTS)
            difference = earlier and first_difference(earlier, fixed_keys(recipe.model_dump(mode="json")))
            if difference:
                raise Mistake(
                    f"{folder}: this folder holds a run of another recipe ({difference}); "
                    "choose another --out, or put the key back"
                )


def fixed_keys(recipe: dict[str, Any]) -> dict[str, Any]:
    """What of a recipe (as JSON) must stay, since the weights follow from it."""
    training = {key: value for key, value in recipe["training"].items() if key not in FREE_TRAINING_KEYS}
    return {key: value for key, value in recipe.items() if key not in FREE_KEYS} | {"training": training}


def _newest_recipe(checkpoints: Path) -> dict[str, Any] | None:
    """The fixed keys that the newest checkpoint with a readable manifest names, or None without one."""
    for checkpoint in reversed(checkpoint_folders(checkpoints)):
        try:
            recipe = read_manifest(checkpoint).recipe
        except OtherFormatError:
            raise
        except CheckpointError:
            continue  # named, and the one before it tried, when training resumes
        return fixed_keys(recipe)
    return None
