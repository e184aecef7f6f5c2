"""Measuring after training: the first rank's work, with the others' help where probes are fitted on crops."""

from collections.abc import Callable

from issl_engine.probing.features.crops import lead_or_follow
from issl_engine.probing.judging.splits import split_images
from issl_engine.ranks import Ranks
from issl_engine.recipe.schema import Recipe
from issl_engine.run.dataset import load_dataset


def measure_together(recipe: Recipe, seed: int, ranks: Ranks, measure: Callable[[], None]) -> None:
    """``measure`` on the first rank, with the recipe's probes; every rank calls it, and comes back when it is done."""
    if any(probe.takes_crops for probe in recipe.probes):
        lead_or_follow(
            ranks, lambda: split_images(load_dataset(recipe), recipe.evaluation, seed).train, measure
        )  # fmt: skip
    elif ranks.is_first:
        measure()
