"""Does a lower loss mean a better representation: the loss above the ETF's optimum against the worst task's error."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from matplotlib.figure import Figure
from pydantic import Field

from issl_engine.mistakes import Mistake
from issl_engine.objectives.base import ObjectiveConfig
from issl_engine.report.palette import INK, PALETTE
from issl_engine.theory.experiments.base import (
    ExperimentConfig,
    Setup,
    check_distinct,
    check_trains,
    measure,
    objective_label,
)
from issl_engine.theory.experiments.invariant_tasks import linear_points
from issl_engine.theory.ideal_loss import IdealConfig, ideal_loss
from issl_engine.theory.labelings import binary_labelings
from issl_engine.theory.plots import MARKERS, panels_of
from issl_engine.theory.points import Point, series_of
from issl_engine.theory.pretraining import evaluate_loss, pretrain_learner
from issl_engine.theory.rank_correlation import jackknife, spearman
from issl_engine.theory.verdicts import CORRELATION, Claim, by_seed, values
from issl_engine.theory.world import FACTORS, World
from issl_engine.training.learner import Learner

CLOSE = 0.1
"""Nats. Two of eight classes that are merged cost DISSL (1 + beta) ln(2) / 4, which is 0.17 or more."""


class GapConfig(ExperimentConfig):
    """The loss above that of the ETF of M(X), against the error of linear probes, over training and over objectives."""

    name: Literal["gap"]
    """Which experiment this is."""

    x_name: ClassVar[str] = "steps"

    dim: Annotated[int, Field(ge=1, le=256)] = 16
    """Width of the representation."""
    steps: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)]
    """Steps of training after which loss and errors are measured; the last is the length of training."""
    batches: Annotated[int, Field(ge=1)] = 20
    """Batches, of training's size, over which a loss is averaged."""

    def check(self, setup: Setup) -> None:
        check_trains(setup)
        check_distinct("experiment.steps", self.steps)
        if list(self.steps) != sorted(self.steps) or self.steps[-1] != setup.pretraining.steps:
            raise Mistake(
                f"experiment.steps: must rise to pretraining.steps ({setup.pretraining.steps}), not {list(self.steps)}"
            )
        for place, objective in enumerate(setup.objectives):
            _check_ideal(f"objectives.{place}", objective, setup.world.num_finest)

    def num_encoders(self, setup: Setup) -> int:
        return len(setup.objectives)

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        for objective in setup.objectives:
            assert isinstance(objective, IdealConfig)
            yield from self._along(objective, setup, world, seed)
            yield None

    def _along(self, objective: IdealConfig, setup: Setup, world: World, seed: int) -> list[Point]:
        """Loss, its excess over the ETF's on the same batches, and errors, along one training."""
        labelings_LC = binary_labelings(setup.world.num_finest, setup.max_labelings, seed)
        classes_F, series, found = world.classes(FACTORS), objective_label(objective), list[Point]()

        def record(step: int, learner: Learner) -> None:
            if step not in self.steps:
                return
            evaluated = evaluate_loss(
                learner, world.train, classes_F, batch_size=setup.pretraining.batch_size, batches=self.batches,
                seed=seed,
            )  # fmt: skip
            every = [ideal_loss(objective, class_B, setup.world.num_finest) for class_B in evaluated.class_TB]
            ideal = sum(every) / len(every)
            for metric, value in (
                ("loss", evaluated.loss),
                ("loss_of_etf", ideal),
                ("loss_gap", evaluated.loss - ideal),
            ):
                found.append(Point(series=series, x=step, metric=metric, seed=seed, value=value))
            learner.encoder.eval()
            found.extend(linear_points(series, step, measure(learner.encoder, world), labelings_LC, seed))
            learner.train()

        pretrain_learner(
            world.train, classes_F, encoder=setup.encoder.model_copy(update={"dim": self.dim}), objective=objective,
            pretraining=setup.pretraining, image_size=setup.world.image_size, seed=seed, after_step=record,
        )  # fmt: skip
        return found

    def draw(self, setup: Setup, points: list[Point]) -> Figure:
        figure, panels = panels_of(2)
        look_up = by_seed(points)
        for index, series in enumerate(series_of(points)):
            colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
            for axes, steps in zip(panels, (self.steps, self.steps[-1:]), strict=True):
                for step in steps:
                    gaps, errors = (look_up((series, step, metric)) for metric in ("loss_gap", "worst_error"))
                    label = series if step == steps[-1] else None
                    axes.plot(
                        [*gaps.values()], [*errors.values()], marker, color=colour, ms=4, label=label,
                        alpha=0.3 + 0.6 * (self.steps.index(step) + 1) / len(self.steps),
                    )  # fmt: skip
        panels[0].set_title(f"after {', '.join(map(str, self.steps))} steps (paler: earlier)", fontsize=9, color=INK)
        panels[1].set_title(f"after {self.steps[-1]} steps", fontsize=9, color=INK)
        for axes in panels:
            axes.axvline(0, color=INK, lw=0.9, ls="--")
            axes.set_xlabel("loss above that of the ETF of M(X), nats")
            axes.set_ylabel("error on the worst invariant task, % of test images")
            axes.set_ylim(bottom=-1)
        panels[1].legend(frameon=False, fontsize=7)
        return figure

    def claims(self, setup: Setup, points: list[Point]) -> list[Claim]:
        labels, last = [objective_label(one) for one in setup.objectives], self.steps[-1]
        found = []
        for series in labels:
            gaps = values(points, (series, last, "loss_gap"))
            found += [
                Claim(
                    sentence=f"{series}: training reaches the loss of the ETF of M(X)",
                    quantity=f"loss minus the ETF's after {last} steps, nats", values=gaps, below=CLOSE,
                ),
                Claim(
                    sentence=f"{series}: training does not go below the loss of the ETF of M(X)",
                    quantity=f"loss minus the ETF's after {last} steps, nats", values=gaps, above=0,
                ),
                Claim(
                    sentence=f"{series}: along training, a lower loss goes with a lower worst error",
                    quantity="rank correlation over the steps of one seed",
                    values=self._within_seeds(points, [(series, step) for step in self.steps]), above=0,
                    limits=CORRELATION,
                ),
                self._over_seeds(points, series, last),
            ]  # fmt: skip
        if len(labels) > 2:
            found.append(
                Claim(
                    sentence="between objectives, a lower loss above the ETF's goes with a lower worst error",
                    quantity=f"rank correlation over the objectives of one seed, after {last} steps",
                    values=self._within_seeds(points, [(series, last) for series in labels]),
                    above=0,
                    limits=CORRELATION,
                )
            )
        return found

    def _within_seeds(self, points: list[Point], places: list[tuple[str, int]]) -> tuple[float, ...]:
        look_up = by_seed(points)
        gaps = [look_up((series, step, "loss_gap")) for series, step in places]
        errors = [look_up((series, step, "worst_error")) for series, step in places]
        return tuple(spearman([one[seed] for one in gaps], [one[seed] for one in errors]) for seed in sorted(gaps[0]))

    def _over_seeds(self, points: list[Point], series: str, last: int) -> Claim:
        gaps, errors = (values(points, (series, last, metric)) for metric in ("loss_gap", "worst_error"))
        return Claim(
            sentence=f"{series}: of several starts, one with a lower loss has a lower worst error",
            quantity=f"rank correlation over seeds after {last} steps, by the jackknife",
            values=jackknife(gaps, errors), above=0, limits=CORRELATION,
        )  # fmt: skip


def _check_ideal(key: str, objective: ObjectiveConfig, num_classes: int) -> None:
    """Raises Mistake where the loss on the ETF is not known."""
    if not isinstance(objective, IdealConfig):
        raise Mistake(
            f"{key}: the loss of {objective.name} on the ETF is not known in closed form; take cissl, simclr or dissl"
        )
    outputs = getattr(objective, "num_classes", num_classes)
    if outputs % num_classes:
        raise Mistake(
            f"{key}.num_classes: must be a multiple of the world's {num_classes} classes for the loss on the ETF to be "
            f"known, not {outputs}"
        )
