"""How many labels a task needs: coarser augmentations leave fewer equivalence classes to see."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.report.palette import INK, PALETTE
from issl_engine.theory.etf import simplex_etf
from issl_engine.theory.experiments.base import (
    ExperimentConfig,
    Measured,
    Setup,
    by_hand,
    check_distinct,
    check_trains,
    measure,
    objective_label,
    train_encoder,
)
from issl_engine.theory.few_labels import expected_accuracy
from issl_engine.theory.linear_probes import linear_probes
from issl_engine.theory.plots import MARKERS, draw_line, panels_of
from issl_engine.theory.points import Point, series_of, summaries
from issl_engine.theory.verdicts import Claim, differences, values
from issl_engine.theory.world import Factor, World, invariant_of_finest

ETF = "ETF of M(X)"
WEIGHT_DECAY = 1e-3
"""Times half the squared weights, beside the mean cross-entropy. One penalty, so that no label is spent on choosing."""
FEW = 16
"""Labelled images up to which claims average: with many, encoders differ by how well they are trained, not by C."""
CLOSE = 2.0
"""Points. The probe with its penalty is not quite the closed form's widest margin, and labelled images are drawn."""


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
        check_trains(setup)
        check_distinct("experiment.keeps", self.keeps)
        check_distinct("experiment.labelled_images", self.labelled_images)
        for keep in self.keeps:
            if "kind" not in keep:
                raise Mistake(
                    f"experiment.keeps: the task is the kind, and augmentations that keep {list(keep)} only change "
                    "it; add kind"
                )
        if min(self.labelled_images) > FEW:
            raise Mistake(
                f"experiment.labelled_images: the claims are of up to {FEW} labels, and {list(self.labelled_images)} "
                "are all more; add a smaller number"
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
            num_classes = _num_classes(setup, keep)
            ideal = by_hand(world, simplex_etf(num_classes), keep, seed=seed)
            yield from self._accuracies(_series(ETF, setup, keep), world, ideal, seed)
            for objective in setup.objectives:
                encoder = train_encoder(setup, world, objective, dim=self.dim, seed=seed, keep=keep)
                yield None
                series = _series(objective_label(objective), setup, keep)
                yield from self._accuracies(series, world, measure(encoder, world, keep), seed)

    def _accuracies(self, series: str, world: World, measured: Measured, seed: int) -> Iterator[Point]:
        """Of so many labelled images, and of all; with the probes' largest convergence gap."""
        kind_F = world.classes(("kind",))
        train_N, test_M = kind_F[world.train.finest], kind_F[world.test.finest]
        for count in (*self.labelled_images, len(train_N)):
            generator = torch.Generator().manual_seed(1000 * seed + count)
            accuracies, gap = [], 0.0
            for _ in range(self.draws if count < len(train_N) else 1):
                chosen_n = torch.randperm(len(train_N), generator=generator)[:count]
                targets_Kn = _targets(train_N[chosen_n], world.config.kinds)
                found = linear_probes(
                    measured.train_Nd[chosen_n], targets_Kn, measured.test_Md, weight_decay=WEIGHT_DECAY
                )
                accuracies.append(100 * float((_kinds(found.logits_LM) == test_M).double().mean()))
                gap = max(gap, found.gap)
            yield Point(series=series, x=count, metric="accuracy", seed=seed, value=sum(accuracies) / len(accuracies))
            yield Point(series=series, x=count, metric="probe_gap", seed=seed, value=gap)

    def draw(self, setup: Setup, points: list[Point]) -> Figure:
        figure, panels = panels_of(1)
        axes = panels[0]
        shown = [point for point in points if point.x in self.labelled_images]
        for level, keep in enumerate(self.keeps):
            colour, marker = PALETTE[level % len(PALETTE)], MARKERS[level % len(MARKERS)]
            for series in series_of(shown):
                if series.endswith(_level(setup, keep)):
                    draw_line(axes, shown, series, "accuracy", colour=colour, marker=marker)
            if setup.world.kinds == 2:
                expected = [100 * _expected(setup, keep, count) for count in self.labelled_images]
                label = "closed form" if level == 0 else None
                axes.plot(self.labelled_images, expected, "x", color=INK, ms=5, mew=1, label=label)
        axes.axhline(self.accuracy, color=INK, lw=0.8, ls=":")
        axes.set_xscale("log", base=2)
        axes.set_xticks(self.labelled_images, [str(count) for count in self.labelled_images])
        axes.set_xlabel("labelled images of the task")
        axes.set_ylabel("accuracy of the logistic probe, % of test images")
        figure.legend(frameon=False, fontsize=7, loc="outside lower center", ncols=2)
        return figure

    def claims(self, setup: Setup, points: list[Point]) -> list[Claim]:
        found = []
        if setup.world.kinds == 2:
            found += [self._follows_the_closed_form(setup, keep, points) for keep in self.keeps]
        for name in (ETF, *map(objective_label, setup.objectives)):
            for coarse, fine in itertools.pairwise(self.keeps):
                first, second = _series(name, setup, coarse), _series(name, setup, fine)
                found.append(
                    Claim(
                        sentence=f"{name}: C = {_num_classes(setup, coarse)} needs fewer labels than "
                        f"C = {_num_classes(setup, fine)}",
                        quantity=f"mean accuracy with up to {FEW} labels, coarse minus fine, same seed, points",
                        values=self._mean_difference(points, first, second),
                        above=0,
                    )
                )
        return found

    def _mean_difference(self, points: list[Point], first: str, second: str) -> tuple[float, ...]:
        of_counts = [
            differences(points, (first, count, "accuracy"), (second, count, "accuracy"))
            for count in self.labelled_images
            if count <= FEW
        ]
        return tuple(sum(of_seed) / len(of_seed) for of_seed in zip(*of_counts, strict=True))

    def _follows_the_closed_form(self, setup: Setup, keep: tuple[Factor, ...], points: list[Point]) -> Claim:
        series = _series(ETF, setup, keep)
        of_counts = [
            [value - 100 * _expected(setup, keep, count) for value in values(points, (series, count, "accuracy"))]
            for count in self.labelled_images
        ]
        return Claim(
            sentence=f"{series}: labels are worth what the closed form says",
            quantity="accuracy minus the closed form's, averaged over the numbers of labels, points",
            values=tuple(sum(of_seed) / len(of_seed) for of_seed in zip(*of_counts, strict=True)),
            above=-CLOSE, below=CLOSE,
        )  # fmt: skip

    def remarks(self, setup: Setup, points: list[Point]) -> list[str]:
        means = {(series, x): found.mean for (series, x, metric), found in summaries(points).items()
                 if metric == "accuracy"}  # fmt: skip
        lines = [f"{name}: {self._enough(means, name)}" for name in dict.fromkeys(name for name, _ in means)]
        if setup.world.kinds == 2:
            for keep in self.keeps:
                expected: dict[tuple[str, float], float] = {
                    ("", count): 100 * _expected(setup, keep, count) for count in self.labelled_images
                }
                lines.append(f"closed form, {_level(setup, keep)}: {self._enough(expected, '')}")
        return lines

    def _enough(self, accuracies: Mapping[tuple[str, float], float], series: str) -> str:
        enough = [x for (name, x), mean in accuracies.items() if name == series and mean >= self.accuracy]
        reached = f"{min(enough):g}" if enough else f"more than {max(self.labelled_images)}"
        return f"{self.accuracy:g} % with {reached} labelled images"


def _num_classes(setup: Setup, keep: tuple[Factor, ...]) -> int:
    return int(invariant_of_finest(setup.world, keep).max()) + 1


def _level(setup: Setup, keep: tuple[Factor, ...]) -> str:
    return f"keeps {' + '.join(keep)}: C = {_num_classes(setup, keep)}"


def _series(name: str, setup: Setup, keep: tuple[Factor, ...]) -> str:
    return f"{name}, {_level(setup, keep)}"


def _expected(setup: Setup, keep: tuple[Factor, ...], count: int) -> float:
    """The closed form's share of right images; every class has equally many images."""
    num_classes = _num_classes(setup, keep)
    images = setup.world.num_finest * setup.world.train_images
    return expected_accuracy(num_classes, images // num_classes, count)


def _targets(kind_N: Tensor, kinds: int) -> Tensor:
    """Binary labels of the probes [K, N]: one for two kinds, else each kind against the rest."""
    if kinds == 2:
        return (kind_N == 1)[None]
    return torch.stack([kind_N == kind for kind in range(kinds)])


def _kinds(logits_KM: Tensor) -> Tensor:
    """The kind that the probes of _targets choose: int64 [M]."""
    return (logits_KM[0] > 0).long() if len(logits_KM) == 1 else logits_KM.argmax(0)
