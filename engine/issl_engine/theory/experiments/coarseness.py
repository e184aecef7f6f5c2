"""How many labels a task needs: coarser augmentations leave fewer equivalence classes to see."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import torch
from matplotlib.figure import Figure
from pydantic import Field

from issl_engine.mistakes import Mistake
from issl_engine.probing.features.features import Features
from issl_engine.probing.probes.logistic import LogisticProbeConfig
from issl_engine.report.palette import INK, PALETTE
from issl_engine.theory.etf import simplex_etf
from issl_engine.theory.experiments.base import (
    ExperimentConfig,
    Measured,
    Setup,
    by_hand,
    check_distinct,
    measure,
    objective_label,
    train_encoder,
)
from issl_engine.theory.plots import MARKERS, draw_line, panels_of
from issl_engine.theory.points import Point, series_of, summaries
from issl_engine.theory.world import Factor, World

WEIGHT_DECAY = 1e-3
"""Times half the squared weights, beside the mean cross-entropy. One penalty, so that no label is spent on choosing."""


class CoarsenessConfig(ExperimentConfig):
    """Labelled images against the accuracy on a task, for augmentations of several coarsenesses."""

    name: Literal["coarseness"]
    """Which experiment this is."""

    x_name: ClassVar[str] = "labelled_images"

    keeps: Annotated[tuple[Annotated[tuple[Factor, ...], Field(min_length=1)], ...], Field(min_length=2)]
    """The factors that the augmentations keep, coarsest augmentations first; each holds kind, which is the task."""
    labelled_images: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)]
    """Numbers of labelled images, drawn evenly from all images."""
    draws: Annotated[int, Field(ge=1)] = 10
    """Draws of labelled images over which a seed's accuracy is averaged."""
    dim: Annotated[int, Field(ge=1)] = 32
    """Width of the representation."""
    accuracy: Annotated[float, Field(gt=0, lt=100)] = 90.0
    """The accuracy, in percent, for which the number of labelled images is counted."""

    def check(self, setup: Setup) -> None:
        check_distinct("experiment.keeps", self.keeps)
        check_distinct("experiment.labelled_images", self.labelled_images)
        for keep in self.keeps:
            if "kind" not in keep:
                raise Mistake(
                    f"experiment.keeps: the task is the kind, and augmentations that keep {list(keep)} only change "
                    "it; add kind"
                )
        most = setup.world.num_finest * setup.world.train_images
        if max(self.labelled_images) > most:
            raise Mistake(
                f"experiment.labelled_images: {max(self.labelled_images)} are more than the world's {most} training "
                "images; lower it or raise world.train_images"
            )
        if setup.world.kinds < 2:
            raise Mistake("world.kinds: the task is to distinguish kinds, so there must be at least 2; raise it")

    def num_encoders(self, setup: Setup) -> int:
        return len(self.keeps) * len(setup.objectives)

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        for keep in self.keeps:
            num_classes = int(world.classes(keep).max()) + 1
            label = f"keeps {' + '.join(keep)}: C = {num_classes}"
            ideal = by_hand(world, simplex_etf(num_classes), keep)
            yield from self._accuracies(f"ETF of M(X), {label}", world, ideal, seed)
            for objective in setup.objectives:
                encoder = train_encoder(setup, world, objective, dim=self.dim, seed=seed, keep=keep)
                yield None
                series = f"{objective_label(objective)}, {label}"
                yield from self._accuracies(series, world, measure(encoder, world, keep), seed)

    def _accuracies(self, series: str, world: World, measured: Measured, seed: int) -> Iterator[Point]:
        kind_F = world.classes(("kind",))
        train_N, test_M = kind_F[world.train.finest], kind_F[world.test.finest]
        test = Features(x_ND=measured.test_Md, labels_N=test_M)
        for count in self.labelled_images:
            generator = torch.Generator().manual_seed(1000 * seed + count)
            accuracies = []
            for _ in range(self.draws):
                chosen_n = torch.randperm(len(train_N), generator=generator)[:count]
                fit = Features(x_ND=measured.train_Nd[chosen_n], labels_N=train_N[chosen_n])
                accuracies.append(_accuracy(fit, test, world.config.kinds))
            mean = sum(accuracies) / len(accuracies)
            yield Point(series=series, x=count, metric="accuracy", seed=seed, value=mean)

    def draw(self, setup: Setup, points: list[Point]) -> Figure:
        figure, panels = panels_of(1)
        axes = panels[0]
        levels = {f"keeps {' + '.join(keep)}": index for index, keep in enumerate(self.keeps)}
        for series in series_of(points):
            level = series.rsplit(", ", 1)[1].split(":")[0]
            draw_line(axes, points, series, "accuracy", colour=PALETTE[levels[level]], marker=MARKERS[levels[level]])
        axes.axhline(self.accuracy, color=INK, lw=0.8, ls=":")
        axes.set_xscale("log", base=2)
        axes.set_xticks(self.labelled_images, [str(count) for count in self.labelled_images])
        axes.set_xlabel("labelled images of the task")
        axes.set_ylabel("accuracy of the logistic probe, % of test images")
        figure.legend(frameon=False, fontsize=7, loc="outside lower center", ncols=2)
        return figure

    def verdict(self, setup: Setup, points: list[Point]) -> list[str]:
        means = {(series, x): found.mean for (series, x, _), found in summaries(points).items()}
        lines = []
        for series in dict.fromkeys(name for name, _ in means):
            enough = [x for (name, x), mean in means.items() if name == series and mean >= self.accuracy]
            reached = f"{min(enough):g}" if enough else f"more than {max(self.labelled_images)}"
            lines.append(f"{series}: {self.accuracy:g} % with {reached} labelled images")
        return lines


def _accuracy(fit: Features, test: Features, num_classes: int) -> float:
    """Percent of the test images that the engine's logistic probe gets right.

    Its one penalty needs no choosing: what is held out for that is a labelled image that it is fitted on as well.
    """
    first = torch.zeros(1, dtype=torch.int64)
    rest = torch.arange(1, len(fit))
    train = fit.subset(rest) if len(fit) > 1 else fit
    probe = LogisticProbeConfig(Cs=(1 / (WEIGHT_DECAY * len(fit)),), max_iterations=20)
    (result,) = probe.evaluate(train=train, held_out=fit.subset(first), test=test, num_classes=num_classes, seed=0)
    return result.value
