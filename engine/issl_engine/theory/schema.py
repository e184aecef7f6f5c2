"""What a file of recipes/theory holds: an experiment on images whose maximal invariant is known."""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

import issl_engine.objectives as objectives
import issl_engine.theory.experiments as experiments
from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.small_resnet import SmallResNetConfig
from issl_engine.objectives.base import ObjectiveConfig
from issl_engine.theory.experiments.base import ExperimentConfig, Setup, objective_label
from issl_engine.theory.pretraining import PretrainingConfig
from issl_engine.theory.world import WorldConfig
from issl_engine.variants import one_of

if TYPE_CHECKING:
    AnyObjective = ObjectiveConfig
    AnyExperiment = ExperimentConfig
else:
    AnyObjective = one_of(objectives, ObjectiveConfig)
    AnyExperiment = one_of(experiments, ExperimentConfig)


class TheoryRecipe(Config):
    """One experiment of ``issl-engine theory run``."""

    name: str
    """Name of the experiment. Its folder is runs/<name> unless --out names another."""
    description: str = ""
    """The claim that is tested."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)] = (0, 1, 2, 3, 4)
    """Images, weights and batches are drawn anew for each seed."""
    experiment: AnyExperiment
    """What is varied and measured."""
    world: WorldConfig
    """The images, and so the number C of equivalence classes."""
    encoder: SmallResNetConfig = SmallResNetConfig(width=16)
    """The network. The experiment sets its dim."""
    objectives: tuple[AnyObjective, ...] = ()
    """The losses and heads that are compared, all trained alike; none where nothing is trained."""
    pretraining: PretrainingConfig = PretrainingConfig()
    """Length, batch size and learning rate of pretraining."""
    max_labelings: Annotated[int, Field(ge=1, le=4096)] = 127
    """Most invariant binary tasks. All are taken where there are no more than this (127 of 8 classes), else a random
    choice of them."""

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise Mistake(f"seeds must differ, not {list(self.seeds)}")
        return self

    @model_validator(mode="after")
    def _objectives_have_labels_of_their_own(self) -> Self:
        labels = [objective_label(objective) for objective in self.objectives]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise Mistake(f"objectives: two are called '{twice}' in tables and plots; leave one out")
        return self

    @model_validator(mode="after")
    def _experiment_fits(self) -> Self:
        self.experiment.check(self.setup)
        return self

    @property
    def setup(self) -> Setup:
        """The settings that the experiment is given."""
        return Setup(
            world=self.world, encoder=self.encoder, objectives=self.objectives, pretraining=self.pretraining,
            max_labelings=self.max_labelings, seeds=self.seeds,
        )  # fmt: skip
