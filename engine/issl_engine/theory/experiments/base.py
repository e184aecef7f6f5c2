"""What an experiment is: it trains tiny encoders on a known world and measures them, point by point."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.base import Encoder
from issl_engine.models.encoders.small_resnet import SmallResNetConfig
from issl_engine.objectives.base import ObjectiveConfig
from issl_engine.objectives.dissl import DISSLConfig
from issl_engine.theory.etf import rotated
from issl_engine.theory.points import Point
from issl_engine.theory.pretraining import PretrainingConfig, encode, pretrain
from issl_engine.theory.verdicts import Claim
from issl_engine.theory.world import FACTORS, Factor, World, WorldConfig

SOLVED = 2.0
"""Percent. A trained encoder counts as solving every invariant task where its worst error is below this: a drawing or
two per hundred are hard to read at 16 pixels."""
DISSL_WORDS = {"invariance_weight": "beta", "entropy_weight": "lambda", "teacher_temperature": "teacher temperature"}
"""DISSL's keys that its label names, as tables and plots call them."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every experiment is given."""

    world: WorldConfig
    encoder: SmallResNetConfig
    objectives: tuple[ObjectiveConfig, ...]
    pretraining: PretrainingConfig
    max_labelings: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Representations of both splits, and the equivalence class of each image."""

    train_Nd: Tensor
    train_classes_N: Tensor
    test_Md: Tensor
    test_classes_M: Tensor


class ExperimentConfig(Config):
    """Base of every experiment's Config: its ``name`` is a Literal."""

    name: str

    x_name: ClassVar[str] = "representation_dim"
    """What a point's x is."""

    def check(self, setup: Setup) -> None:
        """Raises Mistake where the experiment cannot be made of this setup."""

    def num_encoders(self, setup: Setup) -> int:
        """Encoders that are trained for one seed."""
        raise AssertionError(f"{type(self).__name__} must implement num_encoders")

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        """All points of one seed; None after each trained encoder, for progress."""
        raise AssertionError(f"{type(self).__name__} must implement points")

    def draw(self, setup: Setup, points: list[Point]) -> Figure:
        """Means over seeds with intervals, and what the theory says drawn in."""
        raise AssertionError(f"{type(self).__name__} must implement draw")

    def claims(self, setup: Setup, points: list[Point]) -> list[Claim]:
        """What the theory says, with the measured quantity and the rule that decide it."""
        raise AssertionError(f"{type(self).__name__} must implement claims")

    def remarks(self, setup: Setup, points: list[Point]) -> list[str]:
        """Sentences that are printed beside the verdicts; none unless an experiment has some."""
        return []


class WidthsConfig(ExperimentConfig):
    """Base of the experiments that train every objective at several widths."""

    dims: Annotated[tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(min_length=1)]
    """Widths d of the representation; by the theory the error of linear probes falls to zero at d = C - 1."""

    def check(self, setup: Setup) -> None:
        check_trains(setup)
        check_distinct("experiment.dims", self.dims)

    def num_encoders(self, setup: Setup) -> int:
        return len(self.dims) * len(setup.objectives)


def check_distinct(key: str, values: tuple[object, ...]) -> None:
    """Raises Mistake where a value is there twice: a point would be measured twice."""
    if len(set(values)) != len(values):
        raise Mistake(f"{key}: the values must differ, not {list(values)}; leave out the repeated one")


def check_trains(setup: Setup) -> None:
    """Raises Mistake where an experiment that trains encoders is given no objective."""
    if not setup.objectives:
        raise Mistake("objectives: this experiment trains encoders, so it needs at least one objective; add one")


def objective_label(objective: ObjectiveConfig) -> str:
    """How tables and plots call an objective: its name, the student's head where it can be chosen, and of DISSL what
    differs from the published weights and temperature."""
    parts = [objective.name]
    head = getattr(objective, "student_head", None)
    if head is not None:
        parts.append(f"{head} student")
    if isinstance(objective, DISSLConfig):
        published = DISSLConfig()
        for key, word in DISSL_WORDS.items():
            value = getattr(objective, key)
            if value != getattr(published, key):
                parts.append(f"{word} {value:g}")
        if objective.invariance_weight_start is not None:
            parts.append(f"beta from {objective.invariance_weight_start:g}")
    return ", ".join(parts)


def train_encoder(
    setup: Setup, world: World, objective: ObjectiveConfig, *, dim: int, seed: int, keep: tuple[Factor, ...] = FACTORS
) -> Encoder:
    """An encoder of width ``dim``, for augmentations that keep these factors."""
    return pretrain(
        world.train, world.classes(keep), encoder=setup.encoder.model_copy(update={"dim": dim}), objective=objective,
        pretraining=setup.pretraining, image_size=setup.world.image_size, seed=seed,
    )  # fmt: skip


def measure(encoder: Encoder, world: World, keep: tuple[Factor, ...] = FACTORS) -> Measured:
    """The encoder's representations."""
    return with_classes(world, keep, encode(encoder, world.train), encode(encoder, world.test))


def by_hand(world: World, vectors_Cd: Tensor, keep: tuple[Factor, ...] = FACTORS, *, seed: int) -> Measured:
    """The representation that gives each image its class's vector, in axes that are random for each seed (rotated)."""
    classes_F = world.classes(keep)
    train_N, test_M = classes_F[world.train.finest], classes_F[world.test.finest]
    vectors = rotated(vectors_Cd, seed).to(torch.float32)
    return Measured(train_Nd=vectors[train_N], train_classes_N=train_N, test_Md=vectors[test_M], test_classes_M=test_M)


def with_classes(world: World, keep: tuple[Factor, ...], train_Nd: Tensor, test_Md: Tensor) -> Measured:
    """These representations with the images' equivalence classes."""
    classes_F = world.classes(keep)
    return Measured(
        train_Nd=train_Nd, train_classes_N=classes_F[world.train.finest],
        test_Md=test_Md, test_classes_M=classes_F[world.test.finest],
    )  # fmt: skip
