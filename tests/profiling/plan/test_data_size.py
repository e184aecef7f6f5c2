"""How many images an epoch of the plan has."""

from issl_engine.recipe.load import load_recipe
from issl_profiling.plan.arm_plan import data_size


def test_an_epoch_has_the_recipes_share_of_the_images() -> None:
    arms = load_recipe("imagenet/ablations").arms
    assert data_size(arms["dissl"], 1_281_167).images == 1_281_167
    assert data_size(arms["third"], 1_281_167).images == 384_734
    smoke = next(iter(load_recipe("smoke", ["training.image_share=0.5"]).arms.values()))
    whole = next(iter(load_recipe("smoke").arms.values()))
    counts = [data_size(recipe, None).images for recipe in (smoke, whole)]
    assert counts[0] is not None
    assert counts[0] * 2 == counts[1]
