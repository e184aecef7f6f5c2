"""Why each requirement is needed, by counter-examples that are written down: nothing is trained."""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from issl_engine.mistakes import Mistake
from issl_engine.report.palette import INK, PALETTE
from issl_engine.theory.by_construction import interpolating_mlp_errors, on_a_circle, on_a_line
from issl_engine.theory.etf import projected_etf, rotated, simplex_etf
from issl_engine.theory.experiments.base import ExperimentConfig, Measured, Setup, by_hand, check_distinct
from issl_engine.theory.labelings import binary_labelings, labels_of_images, separable_dichotomies
from issl_engine.theory.linear_probes import linear_probes
from issl_engine.theory.plots import panels_of
from issl_engine.theory.points import Point, summaries
from issl_engine.theory.verdicts import PERCENT, Claim, values
from issl_engine.theory.world import World

LINE, CIRCLE, PLANE, ETF = "classes on a line", "classes on a circle", "classes in three dimensions", "ETF of M(X)"
MEMORISED = "a vector per drawing"
WEIGHT_DECAY = 1e-8
"""Lighter than for trained encoders, so that tasks with the narrowest margins are solved too."""
NONE = 0.5
"""Percent or tasks: less than one image, and less than one task, so none."""


class NecessityConfig(ExperimentConfig):
    """Representations that lack one requirement each, by linear probes, by MLP probes and on new views."""

    name: Literal["necessity"]
    """Which experiment this is."""
    changed_views: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)] = (0.0, 0.1, 1.0)
    """Shares of the new drawings that the encoder gives another class's vector, though it is invariant on those that
    the probe is fitted on."""

    def check(self, setup: Setup) -> None:
        check_distinct("experiment.changed_views", self.changed_views)
        if setup.world.num_finest * setup.world.train_images > 512:
            raise Mistake(
                "world.train_images: one representation has a dimension per training image, and more than 512 take "
                "minutes; lower it"
            )

    def num_encoders(self, setup: Setup) -> int:
        return 0

    def points(self, setup: Setup, world: World, seed: int) -> Iterator[Point | None]:
        classes = setup.world.num_finest
        labelings_LC = binary_labelings(classes, setup.max_labelings, seed)
        vectors = {
            LINE: on_a_line(classes), CIRCLE: on_a_circle(classes),
            PLANE: projected_etf(classes, 3, seed), ETF: simplex_etf(classes),
        }  # fmt: skip
        for series, vectors_Cd in vectors.items():
            measured = by_hand(world, vectors_Cd, seed=seed)
            yield from _points(series, measured, labelings_LC, seed)
            errors_L = 100 * interpolating_mlp_errors(
                rotated(vectors_Cd, seed).float(), labelings_LC, measured.test_Md,
                labels_of_images(labelings_LC, measured.test_classes_M),
            )  # fmt: skip
            yield Point(
                series=series, x=vectors_Cd.shape[1], metric="worst_error_mlp", seed=seed, value=float(errors_L.max())
            )
        ideal = by_hand(world, simplex_etf(classes), seed=seed)
        for share in self.changed_views:
            yield from _points(_changed(share), _with_changed(ideal, share, seed), labelings_LC, seed)
        yield from _points(MEMORISED, _memorised(ideal, seed), labelings_LC, seed)

    def draw(self, setup: Setup, points: list[Point]) -> Figure:
        figure, panels = panels_of(2)
        series = {LINE: 1, CIRCLE: 2, PLANE: 3, ETF: setup.world.num_finest - 1}
        names = [f"{name}, d = {dim}" for name, dim in series.items()]
        _bars(panels[0], points, list(series), names, {
            "worst_error": "linear probe", "worst_error_mlp": "MLP with C − 1 hidden units",
        })  # fmt: skip
        panels[0].set_title("M(X) must be predictable by the probes", fontsize=9, color=INK)
        shown = [*map(_changed, self.changed_views), MEMORISED]
        _bars(panels[1], points, shown, shown, {
            "worst_error_seen": "drawings that it was fitted on", "worst_error": "new drawings",
        })  # fmt: skip
        panels[1].set_title("and the encoder invariant", fontsize=9, color=INK)
        return figure

    def claims(self, setup: Setup, points: list[Point]) -> list[Claim]:
        classes = setup.world.num_finest
        found = []
        for series, dim in ((LINE, 1), (CIRCLE, 2), (PLANE, 3)):
            cover = separable_dichotomies(classes, dim) // 2 - 1
            found += [
                Claim(
                    sentence=f"{series}, d = {dim}: M(X) is there but linear probes do not solve every task",
                    quantity="worst error of linear probes, %", above=NONE,
                    values=values(points, (series, dim, "worst_error")),
                    limits=PERCENT,
                ),
                Claim(
                    sentence=f"{series}, d = {dim}: MLP probes solve every task",
                    quantity="worst error of MLPs whose weights are written down, %", below=NONE,
                    values=values(points, (series, dim, "worst_error_mlp")),
                    limits=PERCENT,
                ),
            ]  # fmt: skip
            if setup.max_labelings >= 2 ** (classes - 1) - 1:
                found.append(
                    Claim(
                        sentence=f"{series}, d = {dim}: {cover} of {2 ** (classes - 1) - 1} tasks are linear (Cover)",
                        quantity=f"tasks that linear probes solve minus {cover}",
                        values=tuple(v - cover for v in values(points, (series, dim, "tasks_solved"))),
                        above=-NONE,
                        below=NONE,
                    )
                )
        return found + self._claims_of_invariance(classes - 1, setup, points)

    def _claims_of_invariance(self, dim: int, setup: Setup, points: list[Point]) -> list[Claim]:
        memorised_dim = setup.world.num_finest * setup.world.train_images
        found = [
            Claim(
                sentence=f"{ETF}, d = {dim}: linear probes solve every task on new drawings",
                quantity="worst error of linear probes, %",
                values=values(points, (ETF, dim, "worst_error")),
                limits=PERCENT,
                below=NONE,
            )
        ]
        lacking = [(_changed(share), dim) for share in self.changed_views if share > 0] + [(MEMORISED, memorised_dim)]
        for series, x in lacking:
            found += [
                Claim(
                    sentence=f"{series}: every task is solved on the drawings that the probe was fitted on",
                    quantity="worst error of linear probes on them, %", below=NONE,
                    values=values(points, (series, x, "worst_error_seen")),
                    limits=PERCENT,
                ),
                Claim(
                    sentence=f"{series}: without invariance some task is not solved on new drawings",
                    quantity="worst error of linear probes on new drawings, %", above=NONE,
                    values=values(points, (series, x, "worst_error")),
                    limits=PERCENT,
                ),
            ]  # fmt: skip
        return found


def _changed(share: float) -> str:
    return f"{ETF}, {100 * share:g} % of new drawings changed"


def _points(series: str, measured: Measured, labelings_LC: Tensor, seed: int) -> Iterator[Point]:
    """Errors on new and on fitted drawings, the tasks without any error on the new ones, and the convergence gap."""
    x = measured.train_Nd.shape[1]
    labels_LN = labels_of_images(labelings_LC, measured.train_classes_N)
    judged_LM = labels_of_images(labelings_LC, measured.test_classes_M)
    both = linear_probes(
        measured.train_Nd, labels_LN, torch.cat([measured.train_Nd, measured.test_Md]), weight_decay=WEIGHT_DECAY
    )
    wrong_LX = (both.logits_LM > 0) != torch.cat([labels_LN, judged_LM], dim=1)
    seen_LN, new_LM = wrong_LX.double().split([labels_LN.shape[1], judged_LM.shape[1]], dim=1)
    found = {
        "worst_error": 100 * float(new_LM.mean(1).max()), "worst_error_seen": 100 * float(seen_LN.mean(1).max()),
        "tasks_solved": float((new_LM.sum(1) == 0).sum()), "probe_gap": both.gap,
    }  # fmt: skip
    for metric, value in found.items():
        yield Point(series=series, x=x, metric=metric, seed=seed, value=value)


def _with_changed(ideal: Measured, share: float, seed: int) -> Measured:
    """The first share of each class's new drawings gets the next class's vector."""
    classes_M = ideal.test_classes_M
    num_classes = int(classes_M.max()) + 1
    test_Md = ideal.test_Md.clone()
    for c in range(num_classes):
        places = (classes_M == c).nonzero().flatten()
        places = places[: round(share * len(places))]
        test_Md[places] = ideal.test_Md[classes_M == (c + 1) % num_classes][0]
    return Measured(
        train_Nd=ideal.train_Nd, train_classes_N=ideal.train_classes_N, test_Md=test_Md, test_classes_M=classes_M
    )


def _memorised(ideal: Measured, seed: int) -> Measured:
    """A random direction per drawing, in as many dimensions as there are training images: M(X) of those is linear."""
    count = len(ideal.train_Nd)
    generator = torch.Generator().manual_seed(seed)
    return Measured(
        train_Nd=torch.randn(count, count, generator=generator), train_classes_N=ideal.train_classes_N,
        test_Md=torch.randn(len(ideal.test_Md), count, generator=generator), test_classes_M=ideal.test_classes_M,
    )  # fmt: skip


def _bars(axes: Axes, points: list[Point], series: list[str], names: list[str], metrics: dict[str, str]) -> None:
    """A group of bars per series, one per metric, with the mean beside it."""
    means = {(name, metric): found for (name, _, metric), found in summaries(points).items()}
    height = 0.8 / len(metrics)
    for index, (metric, label) in enumerate(metrics.items()):
        places = [len(series) - place - index * height for place in range(len(series))]
        found = [means[name, metric] for name in series]
        axes.barh(places, [one.mean for one in found], height=0.9 * height, color=PALETTE[index], label=label)
        for place, one in zip(places, found, strict=True):
            axes.annotate(
                f"{one.mean:.0f}", (one.mean, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7
            )
    axes.set_yticks([len(series) - place - height / 2 for place in range(len(series))], names, fontsize=7)
    axes.set_xlabel("error on the worst invariant task, %")
    axes.set_xlim(0, 110)
    axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.35, -0.13), ncols=len(metrics))
