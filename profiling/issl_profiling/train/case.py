"""What is trained in a measurement: one arm of a recipe on this machine, and what follows from them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch

from issl_engine.mistakes import Mistake
from issl_engine.objectives.base import ObjectiveShape, Progress
from issl_engine.ranks import Ranks, start_ranks
from issl_engine.recipe.load import load_recipe
from issl_engine.recipe.schema import Recipe
from issl_engine.run.dataset import load_dataset
from issl_engine.sources.base import Dataset
from issl_engine.training.plan import Plan, make_plan
from issl_profiling.data.cases import DataCase


@dataclass(frozen=True, kw_only=True)
class TrainCase:
    """One arm as one rank trains it. ``arm`` is its name in the recipe's file."""

    arm: str
    recipe: Recipe
    dataset: Dataset
    ranks: Ranks
    plan: Plan

    @classmethod
    def of(cls, arm: str, recipe: Recipe, dataset: Dataset, ranks: Ranks) -> Self:
        """Raises Mistake where the arm cannot be trained."""
        if recipe.regularizers:
            raise Mistake("regularizers are not part of what bench train compares; leave them out (regularizers=[])")
        plan = make_plan(recipe, dataset, ranks)
        return cls(arm=arm, recipe=recipe, dataset=dataset, ranks=ranks, plan=plan)

    @property
    def seed(self) -> int:
        return self.recipe.seeds[0]

    @property
    def images_per_step(self) -> int:
        return self.recipe.training.global_batch_size

    @property
    def passes(self) -> int:
        """Forward and backward passes per step."""
        return self.recipe.training.accumulation_steps

    @property
    def progress(self) -> Progress:
        """The middle of training: what the first steps leave out, such as frozen prototypes, is at work."""
        return self.plan.progress(self.plan.total_steps // 2)

    def objective_shape(self, feature_dim: int) -> ObjectiveShape:
        """What an objective is built for behind an encoder of this width."""
        views = self.recipe.views
        return ObjectiveShape(
            feature_dim=feature_dim, num_views=views.num_views, num_global_views=views.num_global_views,
            batch_size=self.plan.loss_batch_size, num_images=self.plan.num_images,
        )  # fmt: skip

    @property
    def loader(self) -> DataCase:
        """The images and views of one pass, for another library's loader."""
        recipe = self.recipe
        return DataCase(
            name=recipe.name, images=self.dataset.pretraining_images, views=recipe.views,
            batch_size=self.plan.micro_batch_size, decode_threads=recipe.data.decode_threads,
            prefetch_batches=recipe.data.prefetch_batches, device=self.ranks.device,
        )  # fmt: skip

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The arithmetic of encoder and heads, as training.precision has it."""
        bf16 = self.recipe.training.precision == "bf16"
        with torch.autocast(self.ranks.device.type, dtype=torch.bfloat16, enabled=bf16):
            yield


def cases_of_one_rank(
    recipe: str, overrides: Sequence[str], arms: Sequence[str], *, command: str
) -> list[TrainCase]:  # fmt: skip
    """The chosen arms of a recipe, or all, as this process trains them alone.

    Raises Mistake where the recipe is wrong, and where a launcher has started several ranks; ``command`` is what was
    called.
    """
    chosen = load_recipe(recipe, overrides, arms or None).arms
    ranks = start_ranks()
    if ranks.world_size > 1:
        raise Mistake(f"{command} times one rank, and WORLD_SIZE is {ranks.world_size}; start it without a launcher")
    return [TrainCase.of(arm, one, load_dataset(one), ranks) for arm, one in chosen.items()]
