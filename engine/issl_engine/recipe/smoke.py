"""A recipe cut down to a few steps on 200 drawn images: whether it runs, not what it reaches."""

from typing import Any

from pydantic import ValidationError

from issl_engine.mistakes import Mistake
from issl_engine.recipe.check import first_sentence
from issl_engine.recipe.schema import Recipe, RecipeFile

TRAIN_IMAGES, TEST_IMAGES = 160, 40
STEPS = 3
LARGEST_BATCH = 16
LARGEST_IMAGE = 256
"""Side in pixels of the drawn images, where the recipe's evaluation asks for more."""
PROBE_EPOCHS = 5


def smoke(file: RecipeFile) -> RecipeFile:
    """The same arms with the same encoders, heads, crops, optimisers and probes, on drawn images: the source, batch
    size, number of steps, seeds and threads are small, and the name ends in ``_smoke``."""
    return file.model_copy(update={"arms": {arm: smoke_recipe(recipe) for arm, recipe in file.arms.items()}})


def smoke_recipe(recipe: Recipe) -> Recipe:
    """One arm, cut down. Raises Mistake for a recipe that does not work with such a batch."""
    batch_size = min(LARGEST_BATCH, recipe.training.global_batch_size)
    changes = {
        "name": f"{recipe.name}_smoke",
        "description": f"Smoke run: {STEPS} steps on {TRAIN_IMAGES} drawn images; its numbers mean nothing.",
        "seeds": [recipe.seeds[0]],
        "source": _shapes(recipe),
        "data": {"decode_threads": min(2, recipe.data.decode_threads)},
        "schedule": {"warmup_epochs": min(recipe.schedule.warmup_epochs, batch_size / TRAIN_IMAGES)},
        "training": {
            "epochs": STEPS * batch_size / TRAIN_IMAGES,
            "image_share": 1.0,
            "global_batch_size": batch_size,
            "accumulation_steps": 1,
            "exact_accumulation": False,
            "log_every_steps": 1,
        },
        "evaluation": {"batch_size": min(32, recipe.evaluation.batch_size), "max_train_images": None},
    }
    whole = _merged(recipe.model_dump(mode="json"), changes)
    whole["source"] = changes["source"]
    for probe in whole["probes"]:
        if "epochs" in probe:
            probe["epochs"] = min(PROBE_EPOCHS, probe["epochs"])
    try:
        return Recipe.model_validate(whole)
    except ValidationError as error:
        raise Mistake(
            f"recipe '{recipe.name}' does not work with batches of {batch_size} images, which --smoke takes "
            f"({first_sentence(error)}); leave --smoke out"
        ) from error


def _shapes(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": "shapes",
        "num_train": TRAIN_IMAGES,
        "num_test": TEST_IMAGES,
        "image_size": min(LARGEST_IMAGE, max(16, recipe.evaluation.resize)),
    }


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in changes.items():
        inner = both.get(key)
        both[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both
